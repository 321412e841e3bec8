import CSystem
import KnockBase
import KnockProtocol
import KnockServer

/// One end of a connection between two processes of ours, on which each message arrives whole or not
/// at all, and in order. Source: unix(7), SOCK_SEQPACKET.
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
      _ = try SystemError.check(
        unsafe span.withUnsafeMutableBufferPointer { unsafe csys_channel($0.baseAddress) })
      first = Channel(owning: ends[0])
      second = Channel(owning: ends[1])
    }
  }

  /// For poll(2). It hangs up when no other process has the other end any more.
  var number: Int32 { descriptor.number }

  /// Sends a knock. False where there is no room for it.
  ///
  /// - Throws: EPIPE where the other end is gone.
  func send(_ knock: Knock) throws(SystemError) -> Bool {
    let message = KnockMessage(knock)
    let result = message.withBytes { bytes in
      unsafe bytes.withUnsafeBytes { unsafe csys_send(number, $0.baseAddress, $0.count) }
    }
    guard result != -EAGAIN else { return false }
    _ = try SystemError.check(result)
    return true
  }

  /// Sends a byte, which says that the receiver is ready.
  func sendReady() throws(SystemError) {
    var byte: UInt8 = 1
    _ = try SystemError.check(unsafe csys_send(number, &byte, 1))
  }

  /// Sends a key.
  ///
  /// - Throws: EAGAIN where there is no room for it.
  func send(_ key: borrowing KeyedMAC) throws(SystemError) {
    let bytes = unsafe key.bytes
    _ = try SystemError.check(unsafe csys_send(number, bytes.baseAddress, bytes.count))
  }

  /// Takes a key, without waiting. False at the end of the connection.
  func receive(into key: borrowing KeyedMAC) throws(SystemError) -> Bool {
    let bytes = unsafe key.bytes
    let result = unsafe csys_receive(number, bytes.baseAddress, bytes.count)
    guard result != -EAGAIN else { return true }
    return try SystemError.check(result) > 0
  }

  enum Received {
    case knock(Knock)
    case ready, malformed, nothing, end
  }

  /// The next message, without waiting.
  ///
  /// - Parameter families: those that can be acted on.
  func receive(_ families: AddressFamilies) throws(SystemError) -> Received {
    var bytes = InlineArray<18, UInt8>(repeating: 0)
    var span = bytes.mutableSpan
    let result = unsafe span.withUnsafeMutableBufferPointer {
      unsafe csys_receive(number, $0.baseAddress, $0.count)
    }
    if result == -EAGAIN { return .nothing }
    let count = Int(try SystemError.check(result))
    guard count > 0 else { return .end }
    if count == 1 { return .ready }
    guard count == KnockMessage.size, let knock = Knock(message: bytes.span, families: families)
    else { return .malformed }
    return .knock(knock)
  }

  /// Tells the other end that nothing will be sent any more.
  func hangUp() { csys_hang_up(number) }
}
