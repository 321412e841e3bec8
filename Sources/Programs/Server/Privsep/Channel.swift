import CSodium
import CSystem
import KnockBase
import KnockProtocol
import KnockServer

/// One end of the connection between the two processes of the server. Each `PrivsepMessage` arrives whole
/// or not at all, and in order. Source: unix(7), SOCK_SEQPACKET.
struct Channel: ~Copyable {
  private let descriptor: Descriptor

  private init(owning number: Int32) { descriptor = Descriptor(owning: number) }

  /// Both ends.
  struct Pair: ~Copyable {
    let first: Channel
    let second: Channel

    init() throws(SystemError) {
      var ends: InlineArray<2, Int32> = [-1, -1]
      var span = ends.mutableSpan
      try SystemError.check(
        unsafe span.withUnsafeMutableBufferPointer { unsafe csys_channel($0.baseAddress) })
      first = Channel(owning: ends[0])
      second = Channel(owning: ends[1])
    }
  }

  /// For poll(2). It hangs up when no other process has the other end any more.
  var number: Int32 { descriptor.number }

  /// Sends a message, except a key. Returns false if there is no room for it.
  ///
  /// - Throws: `brokenPipe` if the other end is closed.
  func send(_ message: PrivsepMessage) throws(SystemError) -> Bool {
    do throws(SystemError) {
      try message.withBytes { bytes throws(SystemError) in
        try unsafe bytes.withUnsafeBytes { bytes throws(SystemError) in
          try unsafe descriptor.send(bytes)
        }
      }
      return true
    } catch {
      guard error == .wouldBlock else { throw error }
      return false
    }
  }

  /// Sends a key.
  ///
  /// - Throws: `wouldBlock` if there is no room for it.
  func send(_ key: borrowing KeyedMAC) throws(SystemError) {
    let key = unsafe key.bytes
    var buffer = Buffer(repeating: 0)
    var bytes = buffer.mutableSpan
    PrivsepMessage.key.withBytes { bytes[0] = $0[0] }
    for index in 0..<key.count { bytes[PrivsepMessage.keyOffset + index] = unsafe key[index] }
    try unsafe bytes.withUnsafeMutableBytes { bytes throws(SystemError) in
      defer { unsafe sodium_memzero(bytes.baseAddress, bytes.count) }
      let end = PrivsepMessage.keyOffset + key.count
      try unsafe descriptor.send(UnsafeRawBufferPointer(rebasing: bytes[..<end]))
    }
  }

  enum Received {
    case message(PrivsepMessage)
    /// Not one message of the right size and content.
    case invalid
    /// No message is waiting.
    case nothing
    /// The other end is closed.
    case end
  }

  /// The next message, without waiting.
  func receive() throws(SystemError) -> Received { try receive { _ in } }

  /// The next message, without waiting. If it is a key, the key is then in `key`.
  func receive(into key: borrowing KeyedMAC) throws(SystemError) -> Received {
    try receive { bytes in
      for index in bytes.indices { unsafe key.bytes[index] = bytes[index] }
    }
  }

  /// Room for the longest message, which is a key.
  private typealias Buffer = InlineArray<256, UInt8>

  private func receive(_ takeKey: (Span<UInt8>) -> Void) throws(SystemError) -> Received {
    var buffer = Buffer(repeating: 0)
    var bytes = buffer.mutableSpan
    let length = try unsafe bytes.withUnsafeMutableBytes { bytes throws(SystemError) in
      try unsafe descriptor.receive(into: bytes)
    }
    guard let count = length else { return .nothing }
    guard count > 0 else { return .end }
    guard count <= bytes.count,
      let message = PrivsepMessage(buffer.span.extracting(first: count), keySize: KeyedMAC.size)
    else { return .invalid }
    if message == .key {
      takeKey(buffer.span.extracting(PrivsepMessage.keyOffset..<count))
      var bytes = buffer.mutableSpan
      unsafe bytes.withUnsafeMutableBufferPointer {
        unsafe sodium_memzero($0.baseAddress, $0.count)
      }
    }
    return .message(message)
  }

  /// Tells the other end that nothing more will be sent.
  func hangUp() { descriptor.endWriting() }
}
