// The error numbers that Swift code names. Source: errno(3).
#pragma once
#include <stdint.h>

// The same on each architecture. Errors.c asserts it.
#define CSYS_EPERM 1
#define CSYS_ENOENT 2
#define CSYS_EINTR 4
#define CSYS_EIO 5
#define CSYS_EAGAIN 11
#define CSYS_ENOMEM 12
#define CSYS_EACCES 13
#define CSYS_EEXIST 17
#define CSYS_ENOTDIR 20
#define CSYS_EINVAL 22
#define CSYS_ENFILE 23
#define CSYS_EXDEV 18
#define CSYS_EFBIG 27

// Different on some.
extern const int32_t CSYS_EADDRINUSE;
extern const int32_t CSYS_EADDRNOTAVAIL;
extern const int32_t CSYS_EAFNOSUPPORT;
extern const int32_t CSYS_EBADMSG;
extern const int32_t CSYS_ELOOP;
extern const int32_t CSYS_ENAMETOOLONG;
extern const int32_t CSYS_ENOBUFS;
extern const int32_t CSYS_EPROTONOSUPPORT;
extern const int32_t CSYS_ERESTART;
extern const int32_t CSYS_ETIMEDOUT;

/// The system's text for an error number.
const char *csys_error_text(int32_t number);
