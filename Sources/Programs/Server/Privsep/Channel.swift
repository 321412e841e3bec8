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

  /// Sends a message, except a user. Returns false if there is no room for it.
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

  /// Sends a user with the key. Returns false if there is no room for it.
  ///
  /// - Throws: `brokenPipe` if the other end is closed.
  func send(_ user: User, _ key: borrowing KeyedMAC) throws(SystemError) -> Bool {
    var buffer = Buffer(repeating: 0)
    var bytes = buffer.mutableSpan
    PrivsepMessage.user.withBytes { bytes[0] = $0[0] }
    do throws(SystemError) {
      try unsafe bytes.withUnsafeMutableBytes { bytes throws(SystemError) in
        defer { unsafe sodium_memzero(bytes.baseAddress, bytes.count) }
        let rest = unsafe UnsafeMutableRawBufferPointer(
          rebasing: bytes[PrivsepMessage.userOffset...])
        unsafe rest.copyMemory(from: user.bytes)
        unsafe UnsafeMutableRawBufferPointer(rebasing: rest[User.size...])
          .copyMemory(from: UnsafeRawBufferPointer(key.bytes))
        if key.version == 2 {
          // The receiver must not be able to answer.
          let answerKeys = Version2Keys.answerKeys
          unsafe sodium_memzero(
            rest.baseAddress.map { unsafe $0 + User.size + answerKeys.lowerBound },
            answerKeys.count)
        }
        try unsafe descriptor.send(
          UnsafeRawBufferPointer(rebasing: bytes[..<(PrivsepMessage.userOffset + Self.userSize)]))
      }
      return true
    } catch {
      guard error == .wouldBlock else { throw error }
      return false
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
  ///
  /// - Parameter takeUser: gets the bytes of a user, and those of the key.
  func receive(
    _ takeUser: (UnsafeRawBufferPointer, UnsafeRawBufferPointer) -> Void = { _, _ in }
  ) throws(SystemError) -> Received {
    var buffer = Buffer(repeating: 0)
    var bytes = buffer.mutableSpan
    let length = try unsafe bytes.withUnsafeMutableBytes { bytes throws(SystemError) in
      try unsafe descriptor.receive(into: bytes)
    }
    guard let count = length else { return .nothing }
    guard count > 0 else { return .end }
    guard count <= buffer.count,
      let message = PrivsepMessage(buffer.span.extracting(first: count), userSize: Self.userSize)
    else { return .invalid }
    if case .user = message {
      var bytes = buffer.mutableSpan
      unsafe bytes.withUnsafeMutableBytes { bytes in
        let rest = unsafe UnsafeRawBufferPointer(rebasing: bytes[PrivsepMessage.userOffset...])
        unsafe takeUser(
          UnsafeRawBufferPointer(rebasing: rest[..<User.size]),
          UnsafeRawBufferPointer(rebasing: rest[User.size..<Self.userSize]))
        unsafe sodium_memzero(bytes.baseAddress, bytes.count)
      }
    }
    return .message(message)
  }

  /// The size of a user with the key.
  private static let userSize = User.size + KeyedMAC.size

  /// Room for the longest message, which is a user.
  private typealias Buffer = InlineArray<1280, UInt8>

  /// Tells the other end that nothing more will be sent.
  func hangUp() { descriptor.endWriting() }
}
