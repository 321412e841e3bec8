# Completion of pyknock for fish, written by `make completions`.

function __pyknock_is --description 'Whether the command line is of this applet' --argument-names applet
    set -l words (commandline -opc)
    string match -q "*pyknock-$applet" -- $words[1]; and return
    test (count $words) -gt 1; and test $words[2] = $applet
end

function __pyknock_needs --description 'Whether a verb is still missing'
    __pyknock_is client; and not string match -qr '^(open|close|check|connect|list|import)$' -- (commandline -opc)
end

set -l names '(pyknock client list 2>/dev/null)'
for program in pyknock pyknock-server pyknock-client pyknock-keygen pyknock-status
    complete -c $program -f

    complete -c $program -n '__pyknock_is server' -s f -l config -rF -d 'read more settings from FILE'
    complete -c $program -n '__pyknock_is server' -s k -l key-file -rF -d 'read the key from line 1 of FILE (- for stdin)'
    complete -c $program -n '__pyknock_is server' -l keys -x -a '(__fish_complete_directories)' -d 'a key for each user: the files in DIR'
    complete -c $program -n '__pyknock_is server' -s b -l bind-address -x -d 'numeric local address (default: all)'
    complete -c $program -n '__pyknock_is server' -s p -l port -x -d 'UDP port (default: 60120)'
    complete -c $program -n '__pyknock_is server' -s t -l time-drift -x -d 'allowed clock skew in seconds (default: 60)'
    complete -c $program -n '__pyknock_is server' -l allow-observed-source -d 'grant the sender\'s address for -S observed'
    complete -c $program -n '__pyknock_is server' -l no-version1 -d 'refuse knocks of version 1'
    complete -c $program -n '__pyknock_is server' -l answer -d 'answer users of version 2 who ask for it'
    complete -c $program -n '__pyknock_is server' -l nft -x -d 'change sets of nftables'
    complete -c $program -n '__pyknock_is server' -l ipset -x -d 'change sets of ipset'
    complete -c $program -n '__pyknock_is server' -l ttl -x -d 'time until the kernel deletes an address'
    complete -c $program -n '__pyknock_is server' -l grant-prefix4 -x -d 'grant a prefix, 16 to 32 bits (default: 32)'
    complete -c $program -n '__pyknock_is server' -l grant-prefix6 -x -d 'grant a prefix, 48 to 128 bits (default: 128)'
    complete -c $program -n '__pyknock_is server' -l open-command -x -d 'the same as OPEN_CMD'
    complete -c $program -n '__pyknock_is server' -l close-command -x -d 'the same as CLOSE_CMD'
    complete -c $program -n '__pyknock_is server' -l no-shell -d 'run the commands without /bin/sh'
    complete -c $program -n '__pyknock_is server' -l jobs -x -d 'commands at the same time, 1 to 64 (default: 1)'
    complete -c $program -n '__pyknock_is server' -l command-timeout -x -d 'end commands that run longer (default: 30)'
    complete -c $program -n '__pyknock_is server' -l state -x -a '(__fish_complete_directories)' -d 'remember knocks and open addresses in DIR'
    complete -c $program -n '__pyknock_is server' -l close-after -x -d 'close after this time, or at the next start'
    complete -c $program -n '__pyknock_is server' -l close-on-exit -d 'close what is open when the server stops'
    complete -c $program -n '__pyknock_is server' -l replay-capacity -x -d 'remembered knocks, 16 to 1000000 (default: 4096)'
    complete -c $program -n '__pyknock_is server' -l grant-capacity -x -d 'open addresses, 16 to 1000000 (default: 4096)'
    complete -c $program -n '__pyknock_is server' -l syslog -d 'log to /dev/log'
    complete -c $program -n '__pyknock_is server' -l log-format -x -a 'text json' -d 'format of log lines (default: text)'
    complete -c $program -n '__pyknock_is server' -l metrics -rF -d 'write the counters to FILE, for Prometheus'
    complete -c $program -n '__pyknock_is server' -s q -l quiet -d 'log only warnings and errors'
    complete -c $program -n '__pyknock_is server' -s v -l verbose -d 'log more; -vv logs still more'
    complete -c $program -n '__pyknock_is server' -l user -x -a '(__fish_complete_users)' -d 'run as this user: name, UID, or UID:GID'
    complete -c $program -n '__pyknock_is server' -l chroot -x -a '(__fish_complete_directories)' -d 'make DIR the root directory'
    complete -c $program -n '__pyknock_is server' -l no-sandbox -d 'disable the sandbox (for debugging)'
    complete -c $program -n '__pyknock_is server' -l example -x -a 'nft ipset docker' -d 'print firewall rules'
    complete -c $program -n '__pyknock_is server' -l hide -x -d 'have the rules drop only these ports'
    complete -c $program -n '__pyknock_is server' -s n -l check -d 'only check options, key, sets and address'
    complete -c $program -n '__pyknock_is server' -s h -l help -d 'print this help'
    complete -c $program -n '__pyknock_is server' -s V -l version -d 'print the version'

    complete -c $program -n '__pyknock_is client' -s c -l config -x -a $names -d 'read settings of NAME in client.conf'
    complete -c $program -n '__pyknock_is client' -s k -l key-file -rF -d 'read the key from line 1 of FILE (- for stdin)'
    complete -c $program -n '__pyknock_is client' -s p -l port -x -d 'UDP port (default: 60120)'
    complete -c $program -n '__pyknock_is client' -s 4 -l ipv4 -d 'only knock on IPv4 addresses of HOST'
    complete -c $program -n '__pyknock_is client' -s 6 -l ipv6 -d 'only knock on IPv6 addresses of HOST'
    complete -c $program -n '__pyknock_is client' -s S -l sign-address -x -a 'auto observed' -d 'open or close for ADDR, auto, or observed'
    complete -c $program -n '__pyknock_is client' -l stun -x -a '(__fish_print_hostnames)' -d 'STUN server for -S auto; up to 4 times'
    complete -c $program -n '__pyknock_is client' -s s -l source-address -x -d 'send from this local address'
    complete -c $program -n '__pyknock_is client' -l ttl -x -d 'ask to open for at most so long'
    complete -c $program -n '__pyknock_is client' -l answer -d 'wait for the answer of the server'
    complete -c $program -n '__pyknock_is client' -l repeat -x -d 'send each knock N times, 1 to 100 (default: 1)'
    complete -c $program -n '__pyknock_is client' -l interval -x -d 'time between repeats (default: 1)'
    complete -c $program -n '__pyknock_is client' -l wait-port -x -d 'wait until this TCP port can be connected to'
    complete -c $program -n '__pyknock_is client' -l wait -x -d 'how long to wait for the port (default: 10)'
    complete -c $program -n '__pyknock_is client' -l close -d 'close again after COMMAND ends'
    complete -c $program -n '__pyknock_is client' -s n -l check -d 'print the knocks instead of sending them'
    complete -c $program -n '__pyknock_is client' -s v -l verbose -d 'log what is sent'
    complete -c $program -n '__pyknock_is client' -s h -l help -d 'print this help'
    complete -c $program -n '__pyknock_is client' -s V -l version -d 'print the version'

    complete -c $program -n '__pyknock_is keygen' -l version2 -d 'make a key of version 2, for a new server'
    complete -c $program -n '__pyknock_is keygen' -s o -l output -rF -d 'write it to a new FILE, mode 600 (- for stdout)'
    complete -c $program -n '__pyknock_is keygen' -l keys -x -a '(__fish_complete_directories)' -d 'make the user NAME: a new file DIR/NAME'
    complete -c $program -n '__pyknock_is keygen' -l host -x -a '(__fish_print_hostnames)' -d 'print a section for NAME\'s client.conf'
    complete -c $program -n '__pyknock_is keygen' -l line -d 'print a line for \'client import\' instead'
    complete -c $program -n '__pyknock_is keygen' -s h -l help -d 'print this help'
    complete -c $program -n '__pyknock_is keygen' -s V -l version -d 'print the version'

    complete -c $program -n '__pyknock_is status' -s f -l config -rF -d 'the server\'s settings'
    complete -c $program -n '__pyknock_is status' -l keys -x -a '(__fish_complete_directories)' -d 'the server\'s directory of users'
    complete -c $program -n '__pyknock_is status' -l state -x -a '(__fish_complete_directories)' -d 'the server\'s state directory'
    complete -c $program -n '__pyknock_is status' -l nft -x -d 'the server\'s sets of nftables'
    complete -c $program -n '__pyknock_is status' -l ipset -x -d 'the server\'s sets of ipset'
    complete -c $program -n '__pyknock_is status' -l users -d 'print the users, too'
    complete -c $program -n '__pyknock_is status' -l json -d 'print JSON'
    complete -c $program -n '__pyknock_is status' -s h -l help -d 'print this help'
    complete -c $program -n '__pyknock_is status' -s V -l version -d 'print the version'

    complete -c $program -n __pyknock_needs -a 'open close check connect list import'
    complete -c $program -n '__pyknock_is client; and not __pyknock_needs' -a $names
end
complete -c pyknock -n 'test (count (commandline -opc)) -eq 1' -a 'server client keygen status help version'
complete -c pyknock -n 'test (count (commandline -opc)) -eq 1' -s h -l help -d 'print this help'
complete -c pyknock -n 'test (count (commandline -opc)) -eq 1' -s V -l version -d 'print the version'
complete -c pyknock -n 'string match -q help -- (commandline -opc)[2]' -a 'server client keygen status'
