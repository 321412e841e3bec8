import CSystem
import KnockBase
import KnockServer

/// A UDP socket, closed when the value ends. Each call may throw the system's error.
struct UDPSocket: ~Copyable {
  private let descriptor: Descriptor

  private init(_ descriptor: consuming Descriptor) { self.descriptor = descriptor }

  /// No socket. Nothing can be sent or received.
  static var none: UDPSocket { UDPSocket(.none) }

  /// An IPv6 socket also takes IPv4. Throws `familyNotSupported` if the kernel lacks the family.
  init(family: AddressFamily) throws(SystemError) {
    descriptor = Descriptor(owning: try SystemError.check(csys_udp_socket(family.number)))
    // A system that refuses has IPv6 alone.
    if family == .inet6 { _ = csys_accept_both_families(descriptor.number) }
  }

  /// A socket connected to an address, and bound to `source` if there is one.
  init(to address: SocketAddress, from source: SocketAddress?) throws(SystemError) {
    let socket = try UDPSocket(family: address.family)
    if let source { try socket.bind(to: source) }
    try socket.connect(to: address)
    self = socket
  }

  /// A socket that was passed to this process. Throws EINVAL if it is not a UDP socket.
  init(adopting number: Int32) throws(SystemError) {
    try SystemError.check(csys_check_udp_socket(number))
    descriptor = Descriptor(owning: number)
  }

  /// Another descriptor for the same open socket. No command inherits it.
  func duplicate() throws(SystemError) -> UDPSocket {
    UDPSocket(Descriptor(owning: try SystemError.check(csys_duplicate(number))))
  }

  /// Has the kernel tell which address each datagram was sent to.
  func tellLocalAddresses() throws(SystemError) {
    try SystemError.check(csys_tell_local_addresses(number))
  }

  /// The descriptor; negative for none.
  var number: Int32 { descriptor.number }
  var isOpen: Bool { descriptor.isOpen }

  func bind(to address: SocketAddress) throws(SystemError) {
    try SystemError.check(unsafe address.withSystemAddress { unsafe csys_bind(number, $0, $1) })
  }

  func connect(to address: SocketAddress) throws(SystemError) {
    try SystemError.check(unsafe address.withSystemAddress { unsafe csys_connect(number, $0, $1) })
  }

  /// Lets `bind` take an address that no interface has yet. Source: ip(7), IP_FREEBIND.
  func allowAnyAddress() throws(SystemError) {
    try SystemError.check(csys_allow_any_address(number))
  }

  /// The address that it is connected to; nil if it is not.
  var peer: SocketAddress? { SocketAddress(peerOf: number) }

  func localAddress() throws(SystemError) -> SocketAddress {
    try SocketAddress(localAddressOf: number)
  }

  /// Sends to the connected address.
  func send(_ datagram: Span<UInt8>) throws(SystemError) {
    try SystemError.check(
      unsafe datagram.withUnsafeBytes { unsafe csys_send(number, $0.baseAddress, $0.count) })
  }

  /// Sends a datagram back to where another one came from, from the address that this was sent to. Does not wait.
  func send(_ datagram: Span<UInt8>, along path: ReplyPath) throws(SystemError) {
    var bytes = InlineArray<48, UInt8>(repeating: 0)
    var rest = bytes.mutableSpan
    path.write(to: &rest, at: 0)
    let result = unsafe bytes.span.withUnsafeBytes { path in
      unsafe datagram.withUnsafeBytes { datagram in
        unsafe csys_answer(
          number, datagram.baseAddress, datagram.count, path.baseAddress,
          path.baseAddress.map { unsafe $0 + Int(CSYS_SOURCE_SIZE) })
      }
    }
    try SystemError.check(result)
  }

  /// Receives a datagram without waiting.
  ///
  /// - Returns: its length in bytes, which may be more than the memory holds; nil if there is none.
  func receive(into memory: borrowing Storage<UInt8>) throws(SystemError) -> Int? {
    try SystemError.checkReady(unsafe csys_receive(number, memory.baseAddress, memory.count))
  }

  /// Receives the datagrams that are there, as many as fit, without waiting.
  func receive(into batch: inout DatagramBatch) throws(SystemError) {
    // After an error too, the datagrams of the last call must not be handled again.
    batch.count = 0
    let result = unsafe csys_receive_batch(
      number, batch.datagrams.baseAddress, DatagramBatch.stride,
      batch.lengths.baseAddress, batch.sources.baseAddress, batch.localsAddress)
    batch.count = try SystemError.checkReady(result) ?? 0
  }

  /// Makes the kernel drop all datagrams of other forms before they wake the program.
  ///
  /// - Parameter forever: whether nobody can undo this as long as the socket exists.
  func dropOthers(than forms: Span<DatagramForm>, forever: Bool) throws(SystemError) {
    let result = unsafe forms.withUnsafeBytes {
      unsafe csys_drop_others(
        number, $0.baseAddress?.assumingMemoryBound(to: csys_form.self), forms.count,
        forever ? 1 : 0)
    }
    try SystemError.check(result)
  }

  /// How many datagrams the kernel has dropped because of their form or because the buffer was full; nil if it does
  /// not tell.
  var droppedCount: UInt64? {
    let count = csys_dropped_datagrams(number)
    return count < 0 ? nil : UInt64(count)
  }

  /// Asks for a receive buffer of `size` bytes. Returns the size that the kernel chose, as it counts.
  func setReceiveBuffer(_ size: Int32) throws(SystemError) -> Int32 {
    try SystemError.check(csys_set_receive_buffer(number, size))
  }
}

/// A form of datagrams: a length in bytes, and a byte with certain values at an offset.
struct DatagramForm: BitwiseCopyable {
  private let form: csys_form

  init(length: UInt32, offset: UInt32, values: ClosedRange<UInt8>) {
    form = csys_form(
      length: length, offset: offset, first: values.lowerBound, last: values.upperBound)
  }
}

/// Datagrams received by one system call.
struct DatagramBatch: ~Copyable {
  static let capacity = Int(CSYS_BATCH)
  /// The room for a datagram (bytes): one more than the longest knock, so that a longer datagram is recognized.
  fileprivate static let stride = 73
  private static let sourceStride = Int(CSYS_SOURCE_SIZE)
  private static let localStride = Int(CSYS_LOCAL_SIZE)

  fileprivate let datagrams: Storage<UInt8>
  fileprivate let lengths: Storage<UInt32>
  fileprivate let sources: Storage<UInt8>
  /// What the datagrams were sent to, for answers; nil without them.
  fileprivate let locals: Storage<UInt8>?
  fileprivate(set) var count = 0

  /// Nil if out of memory.
  ///
  /// - Parameter answers: whether the datagrams may be answered.
  init?(answers: Bool) {
    guard let datagrams = Storage<UInt8>.mapped(Self.capacity * Self.stride),
      let lengths = Storage<UInt32>.mapped(Self.capacity),
      let sources = Storage<UInt8>.mapped(Self.capacity * Self.sourceStride)
    else { return nil }
    self.datagrams = datagrams
    self.lengths = lengths
    self.sources = sources
    locals = answers ? Storage<UInt8>.mapped(Self.capacity * Self.localStride) : nil
  }

  /// Calls `body` with a datagram, or with the first bytes of one that is longer than there is room for.
  func withDatagram<Result>(_ index: Int, _ body: (Span<UInt8>) -> Result) -> Result {
    let start = index * Self.stride
    let length = min(Int(clamping: lengths[index]), Self.stride)
    return datagrams.withElements(start..<start + length, body)
  }

  /// The source address of a datagram.
  func source(_ index: Int) -> SocketAddress {
    let start = index * Self.sourceStride
    return sources.withElements(start..<start + Self.sourceStride) { SocketAddress(bytes: $0) }
  }

  fileprivate var localsAddress: UnsafeMutablePointer<UInt8>? {
    switch locals {
    case .some(let locals): unsafe locals.baseAddress
    case nil: nil
    }
  }

  /// Where a datagram came from, and how it is answered.
  @inline(never)
  func origin(_ index: Int) -> Origin {
    let source = source(index).parts?.address
    switch locals {
    case nil: return Origin(source)
    case .some(let locals):
      var path = InlineArray<48, UInt8>(repeating: 0)
      for offset in 0..<Self.sourceStride {
        path[offset] = sources[index * Self.sourceStride + offset]
      }
      for offset in 0..<Self.localStride {
        path[Self.sourceStride + offset] = locals[index * Self.localStride + offset]
      }
      return Origin(source, reply: ReplyPath(path.span))
    }
  }
}
