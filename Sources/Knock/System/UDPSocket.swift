import CSystem
import KnockProtocol

/// A UDP socket, closed when the value ends. Each call may throw the system's error.
struct UDPSocket: ~Copyable {
  private let descriptor: Descriptor

  /// - Parameter family: AF_INET or AF_INET6. Throws EAFNOSUPPORT where the kernel has it not.
  init(family: Int32) throws(SystemError) {
    descriptor = Descriptor(owning: try SystemError.check(csys_udp_socket(family)))
    // For the wildcard address. Where the system refuses it, IPv6 alone is what it has.
    if family == AF_INET6 { _ = csys_accept_both_families(descriptor.number) }
  }

  /// For poll(2).
  var number: Int32 { descriptor.number }

  func bind(to address: SocketAddress) throws(SystemError) {
    _ = try SystemError.check(
      unsafe withUnsafePointer(to: address.storage) {
        unsafe csys_bind(number, $0, address.size)
      })
  }

  func connect(to address: SocketAddress) throws(SystemError) {
    _ = try SystemError.check(
      unsafe withUnsafePointer(to: address.storage) {
        unsafe csys_connect(number, $0, address.size)
      })
  }

  func localAddress() throws(SystemError) -> SocketAddress {
    var address = SocketAddress()
    _ = try SystemError.check(unsafe csys_local_address(number, &address.storage))
    return address
  }

  /// Sends to the connected address.
  func send(_ datagram: borrowing Datagram) throws(SystemError) {
    _ = try SystemError.check(
      datagram.withBytes { bytes in
        unsafe bytes.withUnsafeBytes { unsafe csys_send(number, $0.baseAddress, $0.count) }
      })
  }

  /// Takes the next datagram without waiting.
  ///
  /// - Returns: its whole length (bytes), which may exceed what `buffer` holds; nil where none is
  ///   there.
  func receive(
    into buffer: inout MutableSpan<UInt8>, from source: inout SocketAddress
  ) throws(SystemError) -> Int? {
    let result = unsafe buffer.withUnsafeMutableBytes { bytes in
      unsafe csys_receive(number, bytes.baseAddress, bytes.count, &source.storage)
    }
    return result == -EAGAIN ? nil : Int(try SystemError.check(result))
  }

  /// Asks for a receive buffer of `size` bytes. Returns what the kernel gave, by its own count.
  func setReceiveBuffer(_ size: Int32) throws(SystemError) -> Int32 {
    try SystemError.check(csys_set_receive_buffer(number, size))
  }
}
