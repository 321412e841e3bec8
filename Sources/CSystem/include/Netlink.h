// The connection to the kernel's firewall.
#pragma once

/// A socket to the netfilter part of the kernel. It takes messages from the kernel only, and errors come
/// without a copy of the request. Source: netlink(7).
int csys_netfilter_socket(void);
