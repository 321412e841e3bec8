import CSystem
import KnockBase
import Netfilter

/// A connection to the netfilter part of the kernel: requests go out, and its answers come in.
///
/// The kernel has answered by the time that a request is sent; only a long list it makes while that is
/// read. A limit of time is there for all, and an answer that comes later is not taken for that to
/// another request.
struct NetfilterSocket: ~Copyable {
  private static let timeoutMilliseconds: Int64 = 2000
  /// The most that the kernel puts into one datagram of a list (bytes).
  private static let answerSize = 32_768
  /// Enough for a change with twice `IntervalChange.capacity` elements, by measure of the longest
  /// names (bytes).
  private static let requestSize = 65_536

  enum Failure: Error, Equatable {
    case system(SystemError)
    case noAnswer
    case malformedAnswer
    case requestTooLong
    /// What was listed changed meanwhile.
    case changed
  }

  private var descriptor: Descriptor
  private let answer: Storage<UInt8>
  private var request: Request

  init() throws(SystemError) {
    guard let answer = Storage<UInt8>.mapped(Self.answerSize),
      let request = Storage<UInt8>.mapped(Self.requestSize)
    else { throw SystemError(number: ENOMEM) }
    descriptor = Descriptor(owning: try SystemError.check(csys_netfilter_socket()))
    self.answer = answer
    self.request = Request(request)
  }

  /// Sends what `build` writes, and waits for the answers.
  ///
  /// - Parameter visit: called with the attributes of each message that is no error.
  /// - Throws: the first error that the kernel tells of, among others.
  mutating func exchange(
    _ build: (inout Request) -> Void,
    visit: (Span<UInt8>) throws(MalformedReply) -> Void = { _ throws(MalformedReply) in }
  ) throws(Failure) {
    request.removeAll()
    build(&request)
    guard let bytes = unsafe request.bytes else { throw .requestTooLong }
    let deadline = Clock.monotonicMilliseconds() + Self.timeoutMilliseconds
    let result = unsafe csys_send(descriptor.number, bytes.start, bytes.count)
    guard result >= 0 else { throw .system(SystemError(number: -result)) }

    var exchange = Exchange(sequences: request.sequences)
    while !exchange.isOver {
      guard let length = try receive(until: deadline) else {
        // What is still to come must not stand before the next answer.
        let result = csys_netfilter_socket()
        if result >= 0 { descriptor = Descriptor(owning: result) }
        throw .noAnswer
      }
      do throws(MalformedReply) {
        guard length <= answer.count else { throw MalformedReply() }
        try answer.withElements(0..<length) { bytes throws(MalformedReply) in
          try exchange.take(bytes, visit)
        }
      } catch {
        // The rest is read all the same, so that it does not stand before the next answer.
        exchange.failure = exchange.failure ?? .malformedAnswer
      }
    }
    if let failure = exchange.failure { throw failure }
  }

  /// The length of the next datagram (bytes); nil when the time is over.
  private func receive(until deadline: Int64) throws(Failure) -> Int? {
    do throws(SystemError) {
      while Clock.monotonicMilliseconds() < deadline {
        let result = unsafe csys_receive(descriptor.number, answer.baseAddress, answer.count)
        if result != -EAGAIN { return Int(try SystemError.check(result)) }
        _ = try waitUntilReadable(descriptor.number, until: deadline)
      }
      return nil
    } catch {
      throw .system(error)
    }
  }

  /// What has been answered so far.
  private struct Exchange {
    let sequences: ClosedRange<UInt32>
    var failure: Failure?
    var isOver = false

    mutating func take(
      _ datagram: Span<UInt8>, _ visit: (Span<UInt8>) throws(MalformedReply) -> Void
    ) throws(MalformedReply) {
      var (failure, isOver) = (failure, isOver)
      let sequences = sequences
      defer { (self.failure, self.isOver) = (failure, isOver) }
      try datagram.visitMessages { reply, sequence, isChanged, attributes throws(MalformedReply) in
        guard sequences.contains(sequence) else { return }
        if isChanged { failure = failure ?? .changed }
        switch reply {
        case .data: try visit(attributes)
        case .other: break
        case .end(let error):
          if error != 0 { failure = failure ?? .system(SystemError(number: error)) }
          // An error of the first is one of all, where it begins a transaction.
          isOver =
            isOver || sequence == sequences.upperBound
            || error != 0 && sequence == sequences.lowerBound
        }
      }
    }
  }
}
