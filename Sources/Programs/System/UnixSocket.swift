import CSystem

/// Sockets that send and receive whole messages within the machine. Source: unix(7).
extension Descriptor {
  /// Connects to the datagram socket with a name, which begins with `@` if it is abstract.
  init(connectingTo name: Argument) throws(SystemError) {
    self.init(owning: try SystemError.check(unsafe csys_unix_socket(name.pointer, 0)))
  }

  /// Sends a message. Throws `wouldBlock` if there is no room for it.
  func send(_ message: UnsafeRawBufferPointer) throws(SystemError) {
    try SystemError.check(unsafe csys_send(number, message.baseAddress, message.count))
  }

  /// Receives a message without waiting.
  ///
  /// - Returns: its length in bytes, which may be more than the memory holds; 0 at the end; nil if there is none.
  func receive(into memory: UnsafeMutableRawBufferPointer) throws(SystemError) -> Int? {
    try SystemError.checkReady(unsafe csys_receive(number, memory.baseAddress, memory.count))
  }
}
