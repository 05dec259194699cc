"""Hosts in certificates: those that a server's is for, and those that an authority may sign for."""

import ipaddress
from collections.abc import Sequence

from cryptography import x509

_LONGEST_COMMON_NAME = 64


def common_name_of(hosts: Sequence[str]) -> str:
    """Return the common name of a server for its hosts."""
    # An address is none: where there is no DNS name, OpenSSL takes that for one, and holds it
    # against the names that the authority may sign for.
    is_name = isinstance(general_name(hosts[0]), x509.DNSName)
    return hosts[0] if is_name and len(hosts[0]) <= _LONGEST_COMMON_NAME else "coordinator"


def server_names(hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    """Return the alternative names of a server for its hosts."""
    return x509.SubjectAlternativeName([general_name(host) for host in hosts])


def general_name(host: str) -> x509.GeneralName:
    """Return a host as certificates name it: an address, or a name of the DNS."""
    # TLS clients look for an IP address among addresses alone, never among DNS names.
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def subtree(host: str) -> x509.GeneralName:
    """Return what an authority's constraints say of a host that it may sign for."""
    name = general_name(host)
    if isinstance(name, x509.IPAddress):
        return x509.IPAddress(ipaddress.ip_network(name.value))  # the one address
    return name


def permitted_hosts(authority: x509.Certificate) -> list[str] | None:
    """Return the hosts that an authority may sign for; None if it may for any."""
    try:
        names = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return None
    permitted = names.permitted_subtrees or []
    return [
        # An address is told without its mask, which is that of one address
        str(it.value).partition("/")[0]
        for it in permitted
        if isinstance(it, x509.DNSName | x509.IPAddress)
    ]


def may_sign_for(authority: x509.Certificate, host: str) -> bool:
    """Return whether an authority may sign for a host."""
    permitted = permitted_hosts(authority)
    if permitted is None:
        return True
    name = general_name(host)
    if isinstance(name, x509.IPAddress):
        return name in [general_name(it) for it in permitted]
    return any(f".{host}".lower().endswith(f".{it}".lower()) for it in permitted)


def hosts_of(certificate: x509.Certificate) -> list[str]:
    """Return the DNS names and IP addresses that a certificate is for, in their order."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress)]


def is_for(certificate: x509.Certificate, hosts: Sequence[str]) -> bool:
    """Return whether a certificate is for these hosts and no others, in any order."""
    return set(server_names(hosts)) == set(server_names(hosts_of(certificate)))


__all__ = [
    "common_name_of",
    "general_name",
    "hosts_of",
    "is_for",
    "may_sign_for",
    "permitted_hosts",
    "server_names",
    "subtree",
]
