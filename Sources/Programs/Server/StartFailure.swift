import KnockBase

/// Why the server does not start.
enum StartFailure: Error {
  case misuse(Misuse)
  case key(KeyError, KeySource)
  /// A call of the system failed, for something that is named.
  case system(Literal, SystemError)
  case notNumeric(Literal, Argument)
  case cannotBind(SocketAddress, SystemError)
  /// The service manager passed something other than one UDP socket.
  case wrongPassedSocket
  /// The socket that the service manager passed takes datagrams from this address only.
  case connectedSocket(SocketAddress)
  /// The socket that the service manager passed has no port.
  case unboundSocket
  /// The socket that the service manager passed is bound to another address than the settings say.
  case otherAddress(passed: SocketAddress, wanted: SocketAddress)
  case user(UserFault)
  /// The directory of the users cannot be read.
  case users(UserFileError)
  /// Files of users are wrong. Some of them were shown.
  case faultyUsers(Argument, Int, shown: Int)
  case command(Commands.Failure)
  case sandbox(Sandbox.Failure)
  case metrics(Metrics.Failure)
  case state(StateError)
  case noFirewall(option: Literal, NetfilterSocket.Failure)
  /// Of one family or of both.
  case unusableSets(FirewallError.Reason?, FirewallError.Reason?)

  /// Names what a call of the system was for.
  static func wrapping<Result: ~Copyable>(
    _ what: Literal, _ body: () throws(SystemError) -> Result
  ) throws(StartFailure) -> Result {
    do throws(SystemError) {
      return try body()
    } catch { throw .system(what, error) }
  }
}

extension StartFailure: MessageConvertible {
  var message: Message {
    switch self {
    case .misuse(let misuse): misuse.message
    case .key(let error, _): error.message
    case .system(let what, let error): "\(what): \(error)"
    case .notNumeric(let what, let text)
    where text.withBytes { $0.firstIndex(of: UInt8(ascii: "%")) != nil }:
      "\(what): \(argument: text) is no link-local address, or its interface is not there"
    case .notNumeric(let what, let text):
      "\(what): \(argument: text) is not a numeric IPv4 or IPv6 address"
    case .cannotBind(let address, .addressInUse):
      """
      cannot bind to \(address): \(SystemError.addressInUse): another program may hold it, see \
      ss -ulpn; net.ipv4.ip_local_reserved_ports keeps a port from programs that take any
      """
    case .cannotBind(let address, let error):
      "cannot bind to \(address): \(AddressFailure(error, address))"
    case .wrongPassedSocket: "LISTEN_FDS: the service manager must pass exactly one UDP socket"
    case .connectedSocket(let peer):
      """
      LISTEN_FDS: the passed socket is connected to \(peer) and takes knocks from there only: \
      pass one that is only bound
      """
    case .unboundSocket:
      "LISTEN_FDS: the passed socket has no port: set ListenDatagram= in pyknock.socket"
    case .otherAddress(let passed, let wanted):
      """
      the service manager passed a socket for \(passed), not for \(wanted): \
      set both (ListenDatagram= in pyknock.socket)
      """
    case .user(let error): error.message
    case .users(let error): error.message
    case .faultyUsers(let path, let count, let shown):
      "--keys: \(quoted: path): errors: \(count)\(shown: count, shown)"
    case .command(let error): error.message
    case .sandbox(let error): error.message
    case .metrics(let error): error.message
    case .state(let error): error.message
    case .noFirewall(let option, let failure): "\(option): \(failure)"
    case .unusableSets: ""
    }
  }
}

extension Message.Parts {
  fileprivate mutating func appendInterpolation(shown count: Int, _ shown: Int) {
    if shown < count { _ = ", of which \(shown) are shown" as Message }
  }
}
