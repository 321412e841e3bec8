import CSystem

/// The errors that the program tells apart. The C compiler knows their numbers on each architecture.
extension SystemError {
  static var accessDenied: SystemError { SystemError(number: CSYS_EACCES) }
  static var addressInUse: SystemError { SystemError(number: CSYS_EADDRINUSE) }
  static var addressNotAvailable: SystemError { SystemError(number: CSYS_EADDRNOTAVAIL) }
  static var badMessage: SystemError { SystemError(number: CSYS_EBADMSG) }
  static var exists: SystemError { SystemError(number: CSYS_EEXIST) }
  static var familyNotSupported: SystemError { SystemError(number: CSYS_EAFNOSUPPORT) }
  static var fileTooLarge: SystemError { SystemError(number: CSYS_EFBIG) }
  static var invalid: SystemError { SystemError(number: CSYS_EINVAL) }
  /// The last part of a path is a symbolic link, and must not be.
  static var isLink: SystemError { SystemError(number: CSYS_ELOOP) }
  static var nameTooLong: SystemError { SystemError(number: CSYS_ENAMETOOLONG) }
  static var noBufferSpace: SystemError { SystemError(number: CSYS_ENOBUFS) }
  static var notADirectory: SystemError { SystemError(number: CSYS_ENOTDIR) }
  static var notFound: SystemError { SystemError(number: CSYS_ENOENT) }
  static var notPermitted: SystemError { SystemError(number: CSYS_EPERM) }
  /// A link leads out of the directory that it must stay in.
  static var otherDevice: SystemError { SystemError(number: CSYS_EXDEV) }
  static var outOfMemory: SystemError { SystemError(number: CSYS_ENOMEM) }
  static var protocolNotSupported: SystemError { SystemError(number: CSYS_EPROTONOSUPPORT) }
  /// The kernel's firewall: somebody else has changed the rules. Try again.
  static var restart: SystemError { SystemError(number: CSYS_ERESTART) }
  static var timedOut: SystemError { SystemError(number: CSYS_ETIMEDOUT) }
  /// The kernel's firewall: the set is full.
  static var tooManyFiles: SystemError { SystemError(number: CSYS_ENFILE) }
  /// There is nothing to read, no room to write, or a lock is taken.
  static var wouldBlock: SystemError { SystemError(number: CSYS_EAGAIN) }
}
