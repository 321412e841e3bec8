# Completion of pyknock for fish.

function __pyknock_is --description 'Whether the command line is of this applet' --argument-names applet
    set -l words (commandline -opc)
    string match -q "*pyknock-$applet" -- $words[1]; and return
    test (count $words) -gt 1; and test $words[2] = $applet
end

function __pyknock_needs --description 'Whether a verb is still missing'
    __pyknock_is client; and not string match -qr '^(open|close|connect|list)$' -- (commandline -opc)
end

set -l names '(pyknock client list 2>/dev/null)'
set -l programs pyknock pyknock-server pyknock-client pyknock-keygen
for program in $programs
    complete -c $program -f
    complete -c $program -s h -l help -d 'Print help'
    complete -c $program -s V -l version -d 'Print the version'

    complete -c $program -n '__pyknock_is server' -s f -l config -rF -d 'Configuration file'
    complete -c $program -n '__pyknock_is server' -s b -l bind-address -x -d 'Local address'
    complete -c $program -n '__pyknock_is server' -s p -l port -x -d 'UDP port'
    complete -c $program -n '__pyknock_is server' -s t -l time-drift -x -d 'Allowed difference of the clocks'
    complete -c $program -n '__pyknock_is server' -s k -l key-file -rF -d 'Key file'
    complete -c $program -n '__pyknock_is server' -l allow-observed-source -d 'Take the address of the sender'
    complete -c $program -n '__pyknock_is server' -l nft -x -d 'Sets of nftables'
    complete -c $program -n '__pyknock_is server' -l ipset -x -d 'Sets of ipset'
    complete -c $program -n '__pyknock_is server' -l ttl -x -d 'The kernel deletes an address after'
    complete -c $program -n '__pyknock_is server' -l grant-prefix4 -x -d 'Bits of an IPv4 address to let in'
    complete -c $program -n '__pyknock_is server' -l grant-prefix6 -x -d 'Bits of an IPv6 address to let in'
    complete -c $program -n '__pyknock_is server' -l open-command -x -d 'The same as OPEN_CMD'
    complete -c $program -n '__pyknock_is server' -l close-command -x -d 'The same as CLOSE_CMD'
    complete -c $program -n '__pyknock_is server' -l no-shell -d 'Run the commands without a shell'
    complete -c $program -n '__pyknock_is server' -l jobs -x -d 'Commands at the same time'
    complete -c $program -n '__pyknock_is server' -l command-timeout -x -d 'End a command after'
    complete -c $program -n '__pyknock_is server' -l close-after -x -d 'Close again after'
    complete -c $program -n '__pyknock_is server' -l close-on-exit -d 'Close all when stopped'
    complete -c $program -n '__pyknock_is server' -l state -x -a '(__fish_complete_directories)' -d 'State directory'
    complete -c $program -n '__pyknock_is server' -l replay-capacity -x -d 'Knocks to remember'
    complete -c $program -n '__pyknock_is server' -l grant-capacity -x -d 'Addresses to be open'
    complete -c $program -n '__pyknock_is server' -l metrics -rF -d 'File for the counters'
    complete -c $program -n '__pyknock_is server' -l syslog -d 'Log to /dev/log'
    complete -c $program -n '__pyknock_is server' -l log-format -x -a 'text json' -d 'Form of the log'
    complete -c $program -n '__pyknock_is server' -l list -d 'Print what is open'
    complete -c $program -n '__pyknock_is server' -l json -d 'Print it as JSON'
    complete -c $program -n '__pyknock_is server' -l user -x -a '(__fish_complete_users)' -d 'User to become'
    complete -c $program -n '__pyknock_is server' -l chroot -x -a '(__fish_complete_directories)' -d 'Root directory'
    complete -c $program -n '__pyknock_is server' -l no-sandbox -d 'Keep all rights'
    complete -c $program -n '__pyknock_is server' -s n -l check -d 'Check, and do nothing else'
    complete -c $program -n '__pyknock_is server' -l example -x -a 'nft ipset' -d 'Print firewall rules'
    complete -c $program -n '__pyknock_is server' -s q -l quiet -d 'Log less'
    complete -c $program -n '__pyknock_is server' -s v -l verbose -d 'Log more'

    complete -c $program -n __pyknock_needs -a 'open close connect list'
    complete -c $program -n '__pyknock_is client; and not __pyknock_needs' -a $names
    complete -c $program -n '__pyknock_is client' -s c -l config -x -a $names -d 'Name in client.conf'
    complete -c $program -n '__pyknock_is client' -s p -l port -x -d 'UDP port'
    complete -c $program -n '__pyknock_is client' -s S -l sign-address -x -a 'auto observed' -d 'Address to open for'
    complete -c $program -n '__pyknock_is client' -l stun -x -d 'STUN server'
    complete -c $program -n '__pyknock_is client' -s s -l source-address -x -d 'Address to send from'
    complete -c $program -n '__pyknock_is client' -s k -l key-file -rF -d 'Key file'
    complete -c $program -n '__pyknock_is client' -s 4 -l ipv4 -d 'Only IPv4'
    complete -c $program -n '__pyknock_is client' -s 6 -l ipv6 -d 'Only IPv6'
    complete -c $program -n '__pyknock_is client' -l repeat -x -d 'Send each knock so often'
    complete -c $program -n '__pyknock_is client' -l interval -x -d 'How long after each other'
    complete -c $program -n '__pyknock_is client' -l wait-port -x -d 'Wait for a TCP port'
    complete -c $program -n '__pyknock_is client' -l wait -x -d 'How long to wait'
    complete -c $program -n '__pyknock_is client' -l close -d 'Close when the command has ended'
    complete -c $program -n '__pyknock_is client' -s n -l check -d 'Print what would be sent'
    complete -c $program -n '__pyknock_is client' -s v -l verbose -d 'Tell what is sent'

    complete -c $program -n '__pyknock_is keygen' -s o -l output -rF -d 'File to make'
end
complete -c pyknock -n 'test (count (commandline -opc)) -eq 1' -a 'server client keygen help version'
complete -c pyknock -n 'string match -q help -- (commandline -opc)[2]' -a 'server client keygen'
