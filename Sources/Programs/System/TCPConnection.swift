import CSystem

extension Descriptor {
  /// Begins to connect a TCP socket, which never blocks. It can be written to once it is connected or has
  /// failed.
  ///
  /// - Parameter source: the local address to connect from, if it matters.
  init(connectingTo address: SocketAddress, from source: SocketAddress?) throws(SystemError) {
    let result = unsafe withUnsafePointer(to: address.storage) { target in
      guard let source else { return unsafe csys_begin_connection(nil, target, address.size) }
      return unsafe withUnsafePointer(to: source.storage) {
        unsafe csys_begin_connection($0, target, address.size)
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
