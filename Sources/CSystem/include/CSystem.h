// The system, as Swift code sees it. A header for each subject has the functions, and a C file of the same
// name calls the C library.
//
// A function makes one system call, or a few that belong together. If its comment says nothing else, it
// returns 0 or more, or the negated error number, and a signal does not interrupt it.
//
// These headers include no header of the system. So Swift code sees no number, type or layout that differs
// between architectures: the C compiler, which knows the target, has the only copy.
#pragma once
#include "Errors.h"
#include "Files.h"
#include "Log.h"
#include "Memory.h"
#include "Netlink.h"
#include "Process.h"
#include "Sandbox.h"
#include "Socket.h"
#include "Terminal.h"
#include "Time.h"
