import CSystem

extension Descriptor {
  /// Begins to connect a TCP socket, which never blocks. It can be written to once it is connected or has
  /// failed.
  ///
  /// - Parameter source: the local address to connect from, if it matters.
  init(connectingTo address: SocketAddress, from source: SocketAddress?) throws(SystemError) {
    let result = unsafe address.withSystemAddress { address, size in
      guard let source else { return unsafe csys_begin_connection(nil, address, size) }
      return unsafe source.withSystemAddress { source, _ in
        unsafe csys_begin_connection(source, address, size)
      }
    }
    self.init(owning: try SystemError.check(result))
  }

  /// Checks a connection that has been made or has failed.
  ///
  /// - Throws: why it has failed.
  func finishConnecting() throws(SystemError) {
    try SystemError.check(csys_connection_result(number))
  }
}
