import CSystem
import KnockBase
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

  /// Connected to an address, and bound to `source`, if there is one.
  init(to address: SocketAddress, from source: SocketAddress?) throws(SystemError) {
    let socket = try UDPSocket(family: address.family)
    if let source { try socket.bind(to: source) }
    try socket.connect(to: address)
    self = socket
  }

  /// One that was passed on to us. Throws EINVAL for what is none.
  init(adopting number: Int32) throws(SystemError) {
    _ = try SystemError.check(csys_check_udp_socket(number))
    descriptor = Descriptor(owning: number)
  }

  /// Another descriptor of the same socket.
  init(duplicating other: borrowing UDPSocket) throws(SystemError) {
    descriptor = Descriptor(owning: try SystemError.check(csys_duplicate(other.number)))
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
  func send(_ datagram: Span<UInt8>) throws(SystemError) {
    _ = try SystemError.check(
      unsafe datagram.withUnsafeBytes { unsafe csys_send(number, $0.baseAddress, $0.count) })
  }

  /// Takes a datagram, without waiting. Returns its whole length (bytes), of which no more than fits is stored;
  /// nil where none is there.
  func receive(into memory: borrowing Storage<UInt8>) throws(SystemError) -> Int? {
    let result = unsafe csys_receive(number, memory.baseAddress, memory.count)
    return result == -EAGAIN ? nil : Int(try SystemError.check(result))
  }

  /// Takes the datagrams that are waiting, as many as fit, without waiting.
  func receive(into batch: inout DatagramBatch) throws(SystemError) {
    batch.count = 0
    let result = unsafe csys_receive_batch(
      number, batch.datagrams.baseAddress, MemoryLayout<DatagramBatch.Bytes>.stride,
      batch.lengths.baseAddress, batch.sources.baseAddress)
    if result != -EAGAIN { batch.count = Int(try SystemError.check(result)) }
  }

  /// Has the kernel drop what has not the form of a knock before it wakes the program, for as long as
  /// it exists if that is `forever`.
  func dropOthers(forever: Bool) throws(SystemError) {
    _ = try SystemError.check(
      csys_drop_others(
        number, UInt32(Packet.inetSize), UInt32(Packet.inet6Size), UInt32(Packet.commandOffset),
        Command.open.rawValue, Command.close.rawValue, forever ? 1 : 0))
  }

  /// How many datagrams the kernel has dropped, for their form or for want of room; nil where it does
  /// not tell.
  var droppedCount: UInt64? {
    let count = csys_dropped_datagrams(number)
    return count < 0 ? nil : UInt64(count)
  }

  /// Asks for a receive buffer of `size` bytes. Returns what the kernel gave, by its own count.
  func setReceiveBuffer(_ size: Int32) throws(SystemError) -> Int32 {
    try SystemError.check(csys_set_receive_buffer(number, size))
  }
}

/// Datagrams that were received together.
struct DatagramBatch: ~Copyable {
  static let capacity = Int(CSYS_BATCH)
  /// One byte more than any datagram of ours, so that a longer one is never taken for one.
  typealias Bytes = InlineArray<62, UInt8>

  private static let sourceStride = MemoryLayout<sockaddr_in6>.stride

  fileprivate let datagrams: Storage<Bytes>
  fileprivate let lengths: Storage<UInt32>
  fileprivate let sources: Storage<UInt8>
  fileprivate(set) var count = 0

  /// Nil where the system has no memory.
  init?() {
    guard let datagrams = Storage<Bytes>.mapped(Self.capacity),
      let lengths = Storage<UInt32>.mapped(Self.capacity),
      let sources = Storage<UInt8>.mapped(Self.capacity * Self.sourceStride)
    else { return nil }
    self.datagrams = datagrams
    self.lengths = lengths
    self.sources = sources
  }

  /// A datagram, and its length, which is that of all bytes where it is too long to be one of ours.
  func datagram(_ index: Int) -> (bytes: Bytes, length: Int) {
    (datagrams[index], min(Int(clamping: lengths[index]), Bytes.count))
  }

  /// Where a datagram came from.
  func source(_ index: Int) -> SocketAddress {
    let start = index * Self.sourceStride
    return sources.withElements(start..<start + Self.sourceStride) { SocketAddress(bytes: $0) }
  }
}
