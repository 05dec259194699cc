"""A front with a certificate of an external authority, and what an institution's doctor says."""

from pathlib import Path

from front_process import Certificates, FakeSuperLink, eventually, running_front
from outside_authority import root, write

from confide.deployment.reachability import check_reachable
from confide.security import ec_keys


def test_it_is_known_by_the_root_alone_and_renewed_while_it_serves(
    certificates: Certificates, super_link: FakeSuperLink, tmp_path: Path
) -> None:
    top = root()
    middle, key = top.authority("Issuing"), ec_keys.make_key()
    files = [tmp_path / name for name in ("server-ca.crt", "server.crt", "server.key")]
    write(files[0], top.certificate)
    write(files[1], middle.server(key.public_key(), ["127.0.0.1"]), middle.certificate)
    files[2].write_text(ec_keys.private_pem(key))
    upstream = ("--upstream-ca", str(certificates.ca))  # the last one given counts
    made = Certificates(*files)
    with running_front(made, tmp_path, super_link.server_port, *upstream) as front:
        address = f"127.0.0.1:{front.port}"
        seen = {it.check: it for it in check_reachable(address, files[0])}
        assert seen["certificate"].status == "ok"
        assert seen["front"].status == "ok"
        (*_, refused) = check_reachable(address, certificates.ca)
        assert (refused.check, refused.status) == ("certificate", "error")
        assert "ca.crt belongs to another federation or is of another authority" in refused.fix
        # Another intermediate of the same root: nothing changes for those who know the root
        other = top.authority("Issuing 2")
        write(files[1], other.server(key.public_key(), ["127.0.0.1"]), other.certificate)
        eventually(lambda: "was renewed" in front.log.read_text(), front.log)
        seen = {it.check: it for it in check_reachable(address, files[0])}
        assert seen["front"].status == "ok"
