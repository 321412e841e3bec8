#!/bin/sh
# shellcheck shell=dash disable=SC1090,SC2046
# A small stand-in for /etc/rc.common of OpenWrt, which runs init scripts. Each call of a function of procd
# becomes a line of /procd.log, with tabs between the words. Nothing is started.

initscript=$1 action=$2

record() {
	printf '%s' "$1"
	shift
	[ $# -eq 0 ] || printf '\t%s' "$@"
	echo
} >>/procd.log

for call in procd_open_instance procd_close_instance procd_set_param procd_append_param procd_add_jail \
	procd_add_jail_mount procd_add_jail_mount_rw procd_add_reload_trigger procd_send_signal; do
	eval "$call() { record $call \"\$@\"; }"
done

# A UCI file is a list of these commands. A section without a name gets one.
config() {
	sections=$((sections + 1))
	CONFIG_SECTION=${2:-cfg$sections}
	all="$all $CONFIG_SECTION"
	config_set "$CONFIG_SECTION" TYPE "$1"
}
option() {
	config_set "$CONFIG_SECTION" "$1" "$2"
	option_cb "$1" "$2"
}
list() {
	eval "CONFIG_${CONFIG_SECTION}_$1=\"\${CONFIG_${CONFIG_SECTION}_$1:+\$CONFIG_${CONFIG_SECTION}_$1 }\$2\""
	list_cb "$1" "$2"
}
reset_cb() {
	option_cb() { :; }
	list_cb() { :; }
}
reset_cb
config_load() {
	unset $(set | sed -n 's/^\(CONFIG_[A-Za-z0-9_]*\)=.*/\1/p')
	sections=0 all=
	[ -r "/etc/config/$1" ] && . "/etc/config/$1"
}
config_set() { eval "CONFIG_$1_$2=\$3"; }
config_foreach() {
	local one type
	for one in $all; do
		config_get type "$one" TYPE
		[ "$type" != "$2" ] || "$1" "$one"
	done
}
config_get() { eval "$1=\${CONFIG_$2_$3:-\$4}"; }
config_get_bool() {
	config_get "$@"
	eval "case \$$1 in
	1 | on | true | yes | enabled) $1=1 ;;
	0 | off | false | no | disabled) $1=0 ;;
	*) $1=\$4 ;;
	esac"
}

start() {
	record open_service
	start_service
	service_triggers
	record close_service
}
stop() {
	stop_service
	record kill
}
reload() { reload_service; }
link() { echo "/etc/rc.d/S${START}${initscript##*/}"; }
enable() { ln -sf "../init.d/${initscript##*/}" "$(link)"; }
disable() { rm -f "$(link)"; }

. "$initscript"
"$action"
