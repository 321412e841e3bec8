import CSystem
import KnockBase
import Netfilter

/// A connection to the netfilter part of the kernel, which takes requests and sends answers.
///
/// The kernel answers while it takes the request. It makes only a long list while the list is read. Each exchange
/// has a time limit. An answer that comes later is never taken for the answer to another request.
struct NetfilterSocket: ~Copyable {
  /// How long an exchange may take (microseconds).
  var timeout = 2 * Microseconds.second
  /// The most that one wait, or the reading of one datagram, counts. More passes only if this process is paused.
  private static let longestStep = Microseconds.second / 2
  /// The longest datagram in which the kernel sends a part of a list (bytes).
  private static let answerSize = 32_768
  /// Enough for a change of twice `IntervalChange.capacity` elements with the longest names (bytes).
  private static let requestSize = 65_536

  enum Failure: Error, Equatable {
    case system(SystemError)
    case noAnswer
    case malformedAnswer
    case requestTooLong
    /// The set changed while it was listed.
    case changed
  }

  private var descriptor: Descriptor
  private let answer: Storage<UInt8>
  private var request: Request

  init() throws(SystemError) {
    guard let answer = Storage<UInt8>.mapped(Self.answerSize),
      let request = Storage<UInt8>.mapped(Self.requestSize)
    else { throw .outOfMemory }
    descriptor = Descriptor(owning: try SystemError.check(csys_netfilter_socket()))
    self.answer = answer
    self.request = Request(request)
  }

  /// Sends the request that `build` writes, and waits for the answers.
  ///
  /// - Parameter visit: gets the attributes of each message, except those of errors.
  /// - Throws: the first error in an answer, or what goes wrong in the exchange.
  @inline(__always)
  mutating func exchange(
    _ build: (inout Request) -> Void,
    visit: (Span<UInt8>) throws(MalformedReply) -> Void = { _ throws(MalformedReply) in }
  ) throws(Failure) {
    request.removeAll()
    build(&request)
    try exchange(visit)
  }

  // The other half is inlined, so that nothing is left of the closure.
  @inline(never)
  private mutating func exchange(
    _ visit: (Span<UInt8>) throws(MalformedReply) -> Void
  ) throws(Failure) {
    guard let bytes = unsafe request.bytes else { throw .requestTooLong }
    let result = unsafe csys_send(descriptor.number, bytes.start, bytes.count)
    guard result >= 0 else { throw .system(SystemError(number: -result)) }

    var exchange = Exchange(sequences: request.sequences)
    var rest = timeout
    while !exchange.isOver {
      guard let length = try receive(within: &rest) else {
        // A late answer must not come before the next one, so the socket is replaced.
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
        // The rest is still read, so that it does not come before the next answer.
        exchange.failure = exchange.failure ?? .malformedAnswer
      }
    }
    if let failure = exchange.failure { throw failure }
  }

  /// The length of the next datagram (bytes); nil if none comes in time.
  ///
  /// - Parameter rest: the time that is left (microseconds). If this process was paused, an answer that came meanwhile
  ///   is still taken.
  private func receive(within rest: inout Int64) throws(Failure) -> Int? {
    do throws(SystemError) {
      while rest > 0 {
        let begin = SystemClock.monotonic()
        defer { rest -= min(SystemClock.monotonic() - begin, Self.longestStep) }
        if let length = try receive() { return length }
        let end = begin + min(rest, Self.longestStep)
        if try waitUntilReadable(descriptor.number, until: end), let length = try receive() {
          return length
        }
      }
      return nil
    } catch {
      throw .system(error)
    }
  }

  /// The length of the next datagram (bytes); nil if none is there.
  private func receive() throws(SystemError) -> Int? {
    try SystemError.checkReady(
      unsafe csys_receive(descriptor.number, answer.baseAddress, answer.count))
  }

  /// The answers so far.
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
          // If the first message begins a transaction, its error is that of all.
          isOver =
            isOver || sequence == sequences.upperBound
            || error != 0 && sequence == sequences.lowerBound
        }
      }
    }
  }
}
