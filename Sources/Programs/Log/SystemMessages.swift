/// What messages say of the values of System.
extension SystemError: MessageConvertible {
  // Inlined into its fifty callers, it would be a hundredth of the program.
  @inline(never)
  var message: Message { unsafe "\(cString: text)" }
}

extension Resolution.Failure: MessageConvertible {
  var message: Message { unsafe "\(cString: text)" }
}

extension ChildProcess.Ending: MessageConvertible {
  var message: Message {
    switch self {
    case .exited(let status): "exit status \(status)"
    case .killed(let signal): "signal \(signal.number)"
    }
  }
}

/// An error of the system for an address to send to or to bind to.
struct AddressFailure: MessageConvertible {
  private let error: SystemError
  private let lacksZone: Bool

  init(_ error: SystemError, _ address: SocketAddress, from source: SocketAddress? = nil) {
    self.error = error
    lacksZone = error == .invalid && (address.lacksZone || source?.lacksZone == true)
  }

  var message: Message {
    lacksZone
      ? "a link-local address needs its interface, as in fe80::1%eth0" : error.message
  }
}
