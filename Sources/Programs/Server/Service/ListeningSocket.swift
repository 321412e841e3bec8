import KnockBase
import KnockProtocol

/// The socket that knocks come to.
enum ListeningSocket {
  /// The receive buffer (bytes). The kernel's default holds only about 255 datagrams.
  private static let receiveBufferSize: Int32 = 1 << 20

  /// Those of version 1 first.
  private static var knockForms: InlineArray<3, DatagramForm> {
    // All bytes of version 2 look random.
    let version2 = DatagramForm(length: UInt32(Version2.requestSize), offset: 0, values: 0...255)
    return [form(.inet), form(.inet6), version2]
  }

  private static func form(_ form: Version1.Form) -> DatagramForm {
    DatagramForm(
      length: UInt32(form.size), offset: UInt32(Version1.commandOffset),
      values: Command.open.rawValue...Command.close.rawValue)
  }

  /// The forms of all keys that there can be while the server runs.
  private static func usedForms(_ settings: ServerSettings, version: UInt8?) -> Range<Int> {
    let version = settings.keysDirectory == nil ? version : nil
    let hasVersion1 = settings.acceptsVersion1 && version != 2
    return (hasVersion1 ? 0 : 2)..<(version == 1 && hasVersion1 ? 2 : 3)
  }

  /// Binds a socket, or adopts the one that the service manager passed. Ends the program if that cannot be done.
  ///
  /// - Parameter version: of the key of the user without a name, if there is one.
  @inline(never)
  static func open(_ settings: ServerSettings, version: UInt8?) -> UDPSocket {
    let forms = usedForms(settings, version: version)
    if !settings.onlyChecks {
      switch ServiceManager.passedSocket() {
      case .none: break
      case .socket(let socket): return adopt(socket, settings, forms)
      case .other:
        CurrentProcess.exit("LISTEN_FDS: the service manager must pass exactly one UDP socket")
      }
    }
    var address = SocketAddress.any(family: .inet6, port: settings.port)
    if let given = bindAddress(settings, port: settings.port) { address = given }
    do throws(SystemError) {
      do throws(SystemError) {
        return try bind(to: address, settings, forms)
      } catch {
        // The first if the kernel is built without IPv6, the second if IPv6 is switched off.
        let lacksIPv6 = error == .familyNotSupported || error == .addressNotAvailable
        guard lacksIPv6, settings.bindAddress == nil else { throw error }
        address = SocketAddress.any(family: .inet, port: settings.port)
        return try bind(to: address, settings, forms)
      }
    } catch {
      // --check in a unit of systemd that passes the socket, and forbids to make one.
      if settings.onlyChecks, error == .familyNotSupported { return .none }
      fail(address, error)
    }
  }

  @inline(never)
  private static func fail(_ address: SocketAddress, _ error: SystemError) -> Never {
    guard error == .addressInUse else {
      CurrentProcess.exit("cannot bind to \(address): \(AddressFailure(error, address))")
    }
    CurrentProcess.exit(
      """
      cannot bind to \(address): \(error): another program may hold it, see ss -ulpn; \
      net.ipv4.ip_local_reserved_ports keeps a port from programs that take any
      """)
  }

  /// Asks for the receive buffer. Returns what the kernel gave (bytes).
  static func enlargeBuffer(of socket: borrowing UDPSocket) throws(SystemError) -> Int32 {
    try socket.setReceiveBuffer(receiveBufferSize)
  }

  @inline(never)
  private static func bindAddress(
    _ settings: ServerSettings, port: UInt16
  ) -> SocketAddress? {
    guard let text = settings.bindAddress else { return nil }
    guard let address = SocketAddress(numeric: text, port: port) else {
      if text.withBytes({ $0.firstIndex(of: UInt8(ascii: "%")) != nil }) {
        CurrentProcess.exit(
          """
          bind address: \(argument: text) is no link-local address, or its interface is not there
          """)
      }
      CurrentProcess.exit(
        "bind address: \(argument: text) is not a numeric IPv4 or IPv6 address")
    }
    text.logOldForm("bind address")
    return address
  }

  private static func adopt(
    _ socket: consuming UDPSocket, _ settings: ServerSettings, _ forms: Range<Int>
  ) -> UDPSocket {
    if let peer = socket.peer {
      CurrentProcess.exit(
        """
        LISTEN_FDS: the passed socket is connected to \(peer) and takes knocks from there only: \
        pass one that is only bound
        """)
    }
    // The socket outlives this server, and another version may accept other datagrams.
    dropOthers(than: forms, forever: false, to: socket)
    let passed = CurrentProcess.orExit("LISTEN_FDS") { () throws(SystemError) in
      try socket.localAddress()
    }
    guard let passedPort = passed.parts?.port, passedPort != 0 else {
      CurrentProcess.exit(
        "LISTEN_FDS: the passed socket has no port: set ListenDatagram= in pyknock.socket")
    }
    let port = settings.givenPort ?? passedPort
    let given = bindAddress(settings, port: port)
    let wanted = given ?? SocketAddress.any(family: passed.family, port: port)
    let isSame = given == nil || passed.parts?.address == wanted.parts?.address
    guard passedPort == port, isSame else {
      CurrentProcess.exit(
        """
        the service manager passed a socket for \(passed), not for \(wanted): \
        set both (ListenDatagram= in pyknock.socket)
        """)
    }
    return socket
  }

  /// Without the filter, the receiver refuses what the kernel would drop.
  @inline(never)
  private static func dropOthers(
    than forms: Range<Int>, forever: Bool, to socket: borrowing UDPSocket
  ) {
    do throws(SystemError) {
      try socket.dropOthers(than: knockForms.span.extracting(forms), forever: forever)
    } catch {}
  }

  private static func bind(
    to address: SocketAddress, _ settings: ServerSettings, _ forms: Range<Int>
  ) throws(SystemError) -> UDPSocket {
    let deadline = SystemClock.monotonic() + Server.linger
    var isMissing = false
    let socket = try UDPSocket(family: address.family)
    // Before the socket is bound, so that nothing else is ever in it.
    dropOthers(than: forms, forever: true, to: socket)
    while true {
      do throws(SystemError) {
        try socket.bind(to: address)
        if isMissing {
          log.warning(
            "warning: no interface has the address of \(address) yet; knocks arrive once one has")
        }
        return socket
      } catch {
        // At boot, an interface may get its address later.
        if error == .addressNotAvailable, settings.bindAddress != nil, !isMissing {
          isMissing = true
          try socket.allowAnyAddress()
          continue
        }
        guard error == .addressInUse else { throw error }
        // --check also works while the server runs.
        if settings.onlyChecks { return socket }
        guard SystemClock.monotonic() < deadline else { throw error }
        SystemClock.pause(for: 10 * Microseconds.millisecond)
      }
    }
  }
}
