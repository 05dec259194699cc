#!/bin/sh
# Installs this kit as services under users of their own, or removes them again:
#
#   sh install.sh              shows what it would do, and asks
#   sh install.sh --dry-run    shows it, and changes nothing; needs no root
#   sh install.sh --yes        does it without asking
#   sh install.sh --uninstall  removes services and program; keeps keys, ledger, settings, audit logs
#                              (--dry-run and --yes as above)
#
# Whatever is as it should be is left alone, so that it can be run again: after a failure, with a
# newer kit, with a newer wheelhouse. Nothing is fetched from a network.
set -eu
umask 022
LC_ALL=C.UTF-8
export LC_ALL

program=/opt/confide
units=/etc/systemd/system
script=$0
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
service=$here/service

die() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

# --- what is beside this script: it may be compared with the signed one, and what is beside it may not. So no line of it
# is taken that confide provision does not write, and no program of it is run

only() { # FILE PATTERN...: extended regular expressions, each of a whole line
    read_file=$1
    shift
    [ ! -L "$here/$read_file" ] || die "$here/$read_file is a link; bring the kit again, as it was made."
    [ -f "$here/$read_file" ] ||
        die "$here/$read_file is missing; run install.sh from the folder that confide provision made."
    for pattern in "$@"; do
        set -- "$@" -e "$pattern"
        shift
    done
    odd=$(grep -a -n -v -x -E "$@" "$here/$read_file" | head -n 1 | LC_ALL=C tr -c '[:print:]' '?')
    [ -z "$odd" ] || die "$here/$read_file is not as it was made, from its line $odd. Do not install it; ask \
the coordinator, by telephone, for the kit that confide provision wrote."
}

check_beside() {
    [ -z "$(find "$here" "$service" -maxdepth 0 -perm /002)" ] ||
        die "$here can be written by everybody; bring the kit again, to a folder where nobody else can write."
    text='[^[:cntrl:]]*' name='[a-z]+' users="confide-$name" group="(root|$users|confide)"
    key="$name\\.key" path="(/[a-z]+(\\.[a-z]+)?)*" lib="/var/lib/$users"
    only service/install.conf '(kind=(institution|coordinator)|own=(client\.yaml|run\.conf))' \
        "(who|federation)=$text" 'stem=confide-[a-z0-9-]+' 'home=/srv/confide/[a-z0-9-]+' "user=$users" \
        'started=[a-z ]*'
    read_facts
    [ "$stem" = "confide-${home##*/}" ] && [ -n "$kind" ] && [ -n "$user" ] && [ -n "$own" ] ||
        die "$service/install.conf is not as it was made."
    # More is checked when it is copied: of a later kit it is not there
    [ ! -L "$here/$own" ] || die "$here/$own is a link; bring the kit again, as it was made."
    only service/settings.yaml '[a-z_]+: [a-z0-9-]+'
    only service/sysusers.conf "g confide(-$name)? -" "m $users confide(-$name)?" \
        "u $users - \"[a-z, ]+\" (/|$lib)"
    only service/tmpfiles.conf 'd /srv/confide 0755 root root' "d $lib 0700 $users $users" \
        "d $home$path 07[0-5]0 (root|$users) $group" "z $home/$name\\.($name) 06[0-4]0 (root|$users) $group"
    only service/logrotate.conf '(#.*|})' "$home/state(/$name)?/\\*\\.log \\{" "    su $users $group" \
        '    (weekly|rotate [0-9]+|dateext|compress|copytruncate|missingok|notifempty)'
    for file in "$service"/*.service; do
        only "service/${file##*/}" '(#.*|)' '\[(Unit|Service|Install)\]' "Description=confide $name of $text\\)" \
            '(Wants|After)=network-online\.target' 'Type=exec' "User=$users" "WorkingDirectory=$home" \
            "EnvironmentFile=$home/run\\.conf" \
            "ExecStart=$program/current/bin/confide client $home --only $name" \
            "ExecStart=$program/current/bin/confide dashboard $home --listen 127\\.0\\.0\\.1:[0-9]+" \
            "ExecStart=$program/current/bin/confide server \\\$CONFIDE_RUN" \
            'Restart=always' '(RestartSec|TimeoutStopSec|RestartPreventExitStatus)=[0-9]+' 'KillMode=mixed' \
            "LoadCredential=$key\\.passphrase:$stem-$key\\.passphrase" "ReadWritePaths=($lib|$home$path)" \
            '(Protect|Private|Restrict)[A-Za-z]+=yes' 'Protect(System=strict|Proc=invisible)' \
            'DevicePolicy=closed' 'UMask=0077' 'IPAddress(Deny=any|Allow=localhost)' \
            'RestrictAddressFamilies=AF_UNIX( AF_INET AF_INET6)?' 'CapabilityBoundingSet=' \
            '(NoNewPrivileges|LockPersonality|MemoryDenyWriteExecute|RemoveIPC)=yes' 'KeyringMode=private' \
            'SystemCall(Architectures=native|ErrorNumber=EPERM)' \
            'SystemCallFilter=(@system-service|~@privileged @resources|@chown)' 'WantedBy=multi-user\.target'
        case ${file##*/} in
        "$stem"-*[!a-z]*.service) die "service/${file##*/} is not a unit of this kit; ask the coordinator for another." ;;
        "$stem"-?*.service) ;;
        *) die "service/${file##*/} is not a unit of this kit; ask the coordinator for another." ;;
        esac
    done
    odd=$(cd -- "$here" && LC_ALL=C find . -maxdepth 2 ! -path './wheelhouse/*' \
        \( -name '*.crt' -o -name '*.key' -o -name '*.pub' -o -name '*.json' -o -name '*.pem' \) \
        -name '*[!A-Za-z0-9._%~-]*' | head -n 1 | LC_ALL=C tr -c '[:print:]' '?')
    [ -z "$odd" ] || die "$here holds $odd, a name that confide provision gives to none; remove that file."
}

# --- what is asked for

asked=ask
task=install
for word in "$@"; do
    case $word in
    --dry-run) asked=plan ;;
    --yes) asked=yes ;;
    --uninstall) task=uninstall ;;
    -h | --help)
        sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$script"
        exit 0
        ;;
    *) die "unknown option $word; see sh install.sh --help." ;;
    esac
done
# Read and not run: what a kit says must not become commands
kind='' who='' federation='' stem='' home='' user='' own='' started=''
read_facts() {
    while IFS= read -r line; do
        value=${line#*=}
        case $line in
        kind=*) kind=$value ;;
        who=*) who=$value ;;
        federation=*) federation=$value ;;
        stem=*) stem=$value ;;
        home=*) home=$value ;;
        user=*) user=$value ;;
        own=*) own=$value ;;
        started=*) started=$value ;;
        esac
    done <"$service/install.conf"
}
check_beside
# No file of the folder that this was called from, such as the kit, is taken for a module of Python
cd /

# --- steps: first all are told, then all are done

doing=no
steps=0
step() { # TEXT COMMAND...
    text=$1
    shift
    steps=$((steps + 1))
    printf '  %s\n' "$text"
    [ "$doing" = no ] || "$@" || die "that failed: $text. Correct what the line above names, and \
run this again: what was done stays, and is not done twice."
}

put() { # SOURCE TARGET MODE: whole or not at all
    install -m "$3" -- "$1" "$2.new" && mv -f -- "$2.new" "$2"
}

same() {
    [ -f "$2" ] && cmp -s -- "$1" "$2"
}

runs_systemd() {
    [ -d /run/systemd/system ]
}

# --- the program: an environment of its own for each wheelhouse, and a link to the present one

find_program() {
    wheelhouse=
    for folder in "$here/wheelhouse" "${here%/*}/wheelhouse"; do
        if [ -z "$wheelhouse" ] && [ -f "$folder/requirements.txt" ]; then
            wheelhouse=$(CDPATH='' cd -- "$folder" && pwd -P)
        fi
    done
    if [ -n "$wheelhouse" ]; then
        check_wheelhouse
    elif [ ! -x "$program/current/bin/confide" ]; then
        die "there is no wheelhouse beside this kit ($here/wheelhouse or ${here%/*}/wheelhouse), and no \
$program/current/bin/confide. Bring the wheelhouse that make kit made, or install confide into a virtual \
environment and link $program/current to it."
    fi
}

check_wheelhouse() {
    # Beside a kit that was unpacked in /tmp anybody can put one
    case $(stat -c %u "$wheelhouse") in
    0 | "$(stat -c %u "$here")") ;;
    *) die "$wheelhouse belongs to $(stat -c %U "$wheelhouse"), neither to root nor to the owner of $here; \
move kit and wheelhouse to a folder where nobody else can write." ;;
    esac
    [ -z "$(find "$wheelhouse" -maxdepth 0 -perm /002)" ] ||
        die "$wheelhouse can be written by everybody; chmod o-w it, once sha256sum -c SHA256SUMS is well there."
    for file in SHA256SUMS python-version; do
        [ -f "$wheelhouse/$file" ] || die "$wheelhouse/$file is missing; bring the whole folder again."
    done
    version=$(head -c 10 "$wheelhouse/python-version" | tr '\n' ' ')
    version=${version% }
    case $version in
    [1-9].[0-9] | [1-9].[1-9][0-9]) ;;
    *) die "$wheelhouse/python-version is no version of Python, such as 3.11; bring the whole folder again." ;;
    esac
    python=
    for name in python3 "python$version"; do
        found=$("$name" -I -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || :)
        [ "$found" != "$version" ] || python=$name
    done
    [ -n "$python" ] || die "the wheels in $wheelhouse are for Python $version, and neither python3 nor \
python$version is that; install python$version, or bring a wheelhouse for the Python that is here."
    id=$(sha256sum <"$wheelhouse/SHA256SUMS" | cut -c 1-12)
    check_signature
}

check_signature() {
    key=$home/release.pub
    if [ -f "$key" ] && ! same "$key" "$wheelhouse/release.pub"; then
        die "$wheelhouse/release.pub is not the key that signed what is installed ($key). Ask those who \
made the wheelhouse, by telephone; if they have another key, remove $key and run this again."
    fi
    if [ ! -f "$wheelhouse/release.pub" ]; then
        printf 'Note: %s is not signed; its hashes protect it from accidents alone.\n' "$wheelhouse"
        return 0
    fi
    signer=$(openssl pkey -pubin -in "$wheelhouse/release.pub" -outform DER 2>/dev/null | sha256sum | cut -d ' ' -f 1)
    openssl dgst -sha384 -verify "$wheelhouse/release.pub" -signature "$wheelhouse/SHA256SUMS.sig" \
        "$wheelhouse/SHA256SUMS" >/dev/null 2>&1 ||
        die "$wheelhouse/SHA256SUMS is not what the key in release.pub signed (or openssl is missing); do \
not install it, and ask those who made it."
}

install_program() {
    [ -n "$wheelhouse" ] || return 0
    if [ -f "$wheelhouse/release.pub" ]; then
        same "$wheelhouse/release.pub" "$home/release.pub" ||
            step "remember the key that signed the wheelhouse, SHA-256 $signer: compare it by telephone" \
                put "$wheelhouse/release.pub" "$home/release.pub" 644
    fi
    [ -f "$program/$id/.complete" ] ||
        step "make $program/$id from $wheelhouse, offline, each wheel checked against its hash" make_program
    if [ "$(readlink "$program/current" || :)" != "$id" ]; then
        changed=yes
        step "point $program/current to $id" point_program
    fi
}

make_program() {
    (cd -- "$wheelhouse" && sha256sum --quiet --strict -c SHA256SUMS >&2) &&
        mkdir -p "$program" && rm -rf "${program:?}/$id" &&
        "$python" -I -m venv "$program/$id" &&
        "$program/$id/bin/python" -I -m pip install --isolated --quiet --disable-pip-version-check --no-index \
            --find-links "$wheelhouse/wheels" --require-hashes -r "$wheelhouse/requirements.txt" &&
        runuser -u "$user" -- "$program/$id/bin/python" -I -c pass &&
        touch "$program/$id/.complete"
}

point_program() {
    previous=$(readlink "$program/current" || :)
    ln -sfn "$id" "$program/current.new" && mv -fT "$program/current.new" "$program/current" || return 1
    # The one before stays, for a way back
    for folder in "$program"/*/.complete; do
        folder=${folder%/.complete}
        case ${folder##*/} in
        current | "$id" | "$previous") ;;
        *) rm -rf "$folder" ;;
        esac
    done
}

# --- users, folders, files, each from the file that systemd itself reads

install_users() {
    missing=
    while read -r sort name rest; do
        case $sort in
        g) getent group "$name" >/dev/null || missing="$missing, group $name" ;;
        u) getent passwd "$name" >/dev/null || missing="$missing, user $name" ;;
        m)
            # A user that is still to be made gets its groups with it
            groups=$(id -nG "$name" 2>/dev/null) || continue
            case " $groups " in *" $rest "*) ;; *) missing="$missing, $name in group $rest" ;; esac
            ;;
        esac
    done <"$service/sysusers.conf"
    [ -z "$missing" ] || step "make ${missing#, }" systemd-sysusers "$service/sysusers.conf"
}

install_folders() {
    while read -r sort path mode owner group; do
        [ "$sort" = d ] || continue
        [ "$(stat -c '0%a %U %G' "$path" 2>/dev/null)" = "$mode $owner $group" ] ||
            step "make $path, mode $mode, of $owner:$group" \
                install -d -m "$mode" -o "$owner" -g "$group" "$path"
    done <"$service/tmpfiles.conf"
}

kit_files() { # what a kit is made of, by the ends of names; not records that somebody put there, nor the key of releases
    (cd -- "$1" 2>/dev/null && find . -maxdepth 2 -type f \
        \( -path './*.crt' -o -path './*.key' -o -path './*.pub' -o -path './*.json' -o -path './*.pem' \) \
        \( ! -path './*/*' -o -path './nodes/*' -o -path './trainers/*' \) ! -path ./release.pub | sed 's|^\./||' | sort)
}

install_files() {
    for file in $(kit_files "$here"); do
        case $file in *.key) mode=600 ;; *) mode=644 ;; esac
        [ -d "$home/$(dirname "$file")" ] || [ "$doing" = no ] || mkdir -p "$home/$(dirname "$file")"
        same "$here/$file" "$home/$file" || {
            changed=yes
            step "copy $file to $home" put "$here/$file" "$home/$file" "$mode"
        }
    done
    for file in $(kit_files "$home"); do
        case $file in
        # The coordinator's certificate is of the federation's authority again
        nodes/* | trainers/* | server-ca.crt)
            [ -f "$here/$file" ] || {
                changed=yes
                step "remove $home/$file" rm -f "$home/$file"
            }
            ;;
        esac
    done
    same "$service/install.conf" "$home/install.conf" ||
        step "write down in $home/install.conf whose kit this is" \
            put "$service/install.conf" "$home/install.conf" 644
    # Its people's own: never replaced
    present=$home/$own
    if [ ! -f "$present" ]; then
        step "copy $own to $home" put "$here/$own" "$home/$own" 640
        [ "$doing" = yes ] || present=$here/$own
    fi
    while read -r key value; do
        grep -q "^$key" "$present" ||
            step "add $key $value to $home/$own" add_line "$key $value" "$home/$own"
    done <"$service/settings.yaml"
    install_owners
}

add_line() { # LINE FILE: after the end of its last line
    { cat "$2" && [ -z "$(tail -c 1 "$2")" ] || echo; } >"$2.new" && echo "$1" >>"$2.new" &&
        chmod --reference="$2" "$2.new" && chown --reference="$2" "$2.new" && mv -f "$2.new" "$2"
}

install_owners() {
    while read -r sort path mode owner group; do
        [ "$sort" = z ] || continue
        # In a plan, one that is still to be copied counts as there
        [ -f "$path" ] || { [ "$doing" = no ] && [ -f "$here/${path##*/}" ]; } || continue
        [ "$(stat -c '0%a %U %G' "$path" 2>/dev/null)" = "$mode $owner $group" ] ||
            step "give $path to $owner:$group, mode $mode" give "$path" "$mode" "$owner:$group"
    done <"$service/tmpfiles.conf"
}

give() { # PATH MODE OWNER:GROUP
    chown "$3" "$1" && chmod "$2" "$1"
}

check_identity() {
    [ ! -f "$home/ca.crt" ] || same "$here/ca.crt" "$home/ca.crt" ||
        die "$home has the ca.crt of another federation called $federation. Ask the coordinator for another \
name, or move $home away if that one has ended."
    [ ! -f "$home/install.conf" ] || grep -qxF "$(grep '^who=' "$service/install.conf")" "$home/install.conf" ||
        die "$home is the kit of another institution ($(grep '^who=' "$home/install.conf")); this one is of $who. \
Each has a machine of its own."
}

install_settings() {
    for file in "$service"/*.service; do
        same "$file" "$units/${file##*/}" || {
            changed=yes
            reload=yes
            step "write $units/${file##*/}" put "$file" "$units/${file##*/}" 644
        }
    done
    # Where systemd and logrotate look: users and owners are made good at each start of the machine
    for kept in sysusers.conf:/etc/sysusers.d/$stem.conf tmpfiles.conf:/etc/tmpfiles.d/$stem.conf \
        logrotate.conf:/etc/logrotate.d/$stem; do
        target=${kept#*:}
        [ -d "${target%/*}" ] || [ "$doing" = no ] || mkdir -p "${target%/*}"
        same "$service/${kept%%:*}" "$target" ||
            step "write $target" put "$service/${kept%%:*}" "$target" 644
    done
}

# --- services

is_filled_in() { # an own file without the ??? of what only its people know
    file=$home/$own
    [ -f "$file" ] || file=$here/$own
    ! grep -q '"???"' "$file"
}

start_services() {
    runs_systemd || return 0
    if [ "$reload" = yes ]; then
        step "tell systemd of it" systemctl daemon-reload
    fi
    is_filled_in || return 0
    for role in $started; do
        unit=$stem-$role.service
        if [ "$changed" = yes ] && systemctl is-active --quiet "$unit"; then
            step "restart $unit" systemctl restart "$unit"
        elif ! systemctl is-enabled --quiet "$unit" || ! systemctl is-active --quiet "$unit"; then
            step "start $unit, now and with the machine" systemctl enable --now "$unit"
        fi
    done
}

install_all() {
    changed=no
    reload=no
    install_users
    install_folders
    install_program
    install_files
    install_settings
    start_services
}

tell_next() {
    if ! is_filled_in; then
        printf 'Next: fill in each "???" of %s, and run this again: it starts the services.\n' "$home/$own"
    fi
    printf 'Then: %s/current/bin/confide doctor %s\n' "$program" "$home"
    if [ -f "$home/client.yaml" ]; then
        printf 'Records belong to %s, mode 600, outside of /home and /root.\n' "$user"
        printf 'Decisions are made as that user: runuser -u %s -- %s/current/bin/confide client status %s\n' \
            "$user" "$program" "$home"
    else
        printf 'A run: write its overrides into %s, then systemctl start %s-run\n' "$home/$own" "$stem"
    fi
    for file in "$here"/*.key; do
        [ -f "$file" ] && [ "$here" != "$home" ] || continue
        printf 'Remove %s: %s has it now.\n' "$file" "$home"
    done
    if ! runs_systemd; then
        printf 'systemd does not run here: start each ExecStart of %s as its User yourself.\n' "$service"
    fi
}

# --- removing

uninstall_all() {
    if runs_systemd; then
        for file in "$service"/*.service; do
            [ ! -f "$units/${file##*/}" ] ||
                step "stop ${file##*/}" systemctl disable --now "${file##*/}"
        done
    fi
    for file in "$service"/*.service; do
        [ ! -f "$units/${file##*/}" ] || step "remove $units/${file##*/}" rm -f "$units/${file##*/}"
    done
    for file in "/etc/tmpfiles.d/$stem.conf" "/etc/sysusers.d/$stem.conf" "/etc/logrotate.d/$stem"; do
        [ ! -f "$file" ] || step "remove $file" rm -f "$file"
    done
    if runs_systemd; then
        step "tell systemd of it" systemctl daemon-reload
    fi
    [ -z "$(passing_state)" ] ||
        step "remove what passes in $home/state: sockets, logs, what is between two rounds" remove_state
    others=$(find "$units" -maxdepth 1 -name 'confide-*.service' ! -name "$stem-*" 2>/dev/null)
    if [ -z "$others" ]; then
        for folder in "$program"/*/.complete; do
            folder=${folder%/.complete}
            [ -L "$folder" ] || [ ! -f "$folder/.complete" ] || step "remove $folder" rm -rf "$folder"
        done
        [ ! -L "$program/current" ] || step "remove $program/current" rm -f "$program/current"
    fi
}

passing_state() { # files of state, without folders of audit logs and ledgers, wherever they were put
    [ ! -d "$home/state" ] ||
        find "$home/state" -type d \( -name '*audit*' -o -name '*ledger*' \) -prune -o ! -type d -print
}

remove_state() { # from within each folder: its user could put a link in the place of one above
    find "$home/state" -type d \( -name '*audit*' -o -name '*ledger*' \) -prune -o ! -type d -execdir rm -f -- {} + &&
        find "$home/state" -mindepth 1 -depth -type d -empty -delete
}

tell_kept() {
    printf 'Kept:\n'
    for path in "$home/$own" "$home"/*.key "$home/ledger" "$home/runs" "$home/state/trainer/audit" \
        "$home/state/audit"; do
        [ ! -e "$path" ] || printf '  %s\n' "$path"
    done
    printf '  the users that they belong to, with /var/lib/%s (a new user of the same number could read all this)\n' "$user"
    printf 'sh install.sh installs again, with all of these. Drop-ins of your own in %s stay, too.\n' "$units"
}

# --- first the plan, then the work

[ "$asked" = plan ] || [ "$(id -u)" = 0 ] || die "run it as root; --dry-run shows what it would do, and needs none."
for tool in systemd-sysusers runuser sha256sum install; do
    command -v "$tool" >/dev/null || die "$tool is not here; it comes with systemd, util-linux or coreutils."
done
if [ "$task" = install ]; then
    find_program
    check_identity
fi
printf '%s, %s of the federation %s, in %s.\n' "$who" "$kind" "$federation" "$home"
printf 'To be done:\n'
"${task}_all"
if [ "$steps" = 0 ]; then
    printf '  nothing: all is as it should be.\n'
elif [ "$asked" = plan ]; then
    printf 'Nothing was changed (--dry-run).\n'
    exit 0
else
    if [ "$asked" = ask ]; then
        printf 'Do it? [y/N] '
        read -r answer || answer=
        case $answer in
        y | Y | yes) ;;
        *) die "nothing was changed; --yes does it without asking." ;;
        esac
    fi
    doing=yes
    printf 'Doing it:\n'
    "${task}_all"
    printf 'All of it is done.\n'
fi
if [ "$task" = install ]; then
    tell_next
else
    tell_kept
fi
