import KnockBase
import KnockProtocol

/// The requests of version 2 to one host that want an answer, and the first right answer to any of them. If that is
/// "not allowed", another address of the host may still say something else, in a second.
struct AnswerWait: ~Copyable {
  /// To each address.
  private static let requestLimit = 10
  private static let pause = Microseconds.second
  /// To the server, a later request is no repeat. It would run its command again (microseconds).
  private static let repeatTime = 2 * Microseconds.second
  /// How many datagrams to take from a socket at once. Others may have come before the answer.
  private static let batchSize = 100

  /// Connected to the addresses of the host, each at its place; none before the first request, and once the address
  /// has answered. So the kernel keeps out what others send.
  private var sockets: FixedList<UDPSocket>
  /// Of the requests that were sent, one after another.
  private var tags: StorageText
  private let memory: Storage<UInt8>
  private var roundCount = 0
  /// When the last round began, or the first answer came, by the clock that also runs while the machine sleeps
  /// (microseconds).
  private var lastRound: Int64 = 0
  /// Whether an answer is wanted, and may still come.
  private(set) var isOpen: Bool
  private(set) var answer: Version2.Answer?
  /// When it came (microseconds since the Unix epoch).
  private(set) var answerTime: Int64 = 0

  @inline(never)
  init(isWanted: Bool) throws(SystemError) {
    let placeCount = isWanted ? Resolution.capacity : 1
    var sockets = try FixedList<UDPSocket>(capacity: placeCount)
    guard
      let tags = Storage<UInt8>.mapped(placeCount * Self.requestLimit * Version2.tagSize),
      let memory = Storage<UInt8>.mapped(Version2.answerSize)
    else { throw .outOfMemory }
    while sockets.count < placeCount { sockets.append(.none) }
    self.sockets = sockets
    self.tags = StorageText(tags)
    self.memory = memory
    isOpen = isWanted
  }

  /// When to call `takeRound` (monotonic microseconds).
  func nextDeadline(after now: Int64) -> Int64 {
    isOpen && roundCount > 0 ? now + lastRound + Self.pause - SystemClock.sinceBoot() : .max
  }

  /// Whether to ask again now. Nil after the last round or an answer, and if this process was stopped: then only an
  /// answer that has come counts.
  mutating func takeRound() -> Bool? {
    let now = SystemClock.sinceBoot()
    guard isOpen, roundCount > 0, lastRound + Self.pause <= now else { return false }
    guard answer == nil, roundCount < Self.requestLimit, now < lastRound + Self.repeatTime
    else { return nil }
    roundCount += 1
    lastRound = now
    return true
  }

  /// Sends a request from the socket at a place.
  mutating func send(
    _ request: borrowing Datagram, from socket: consuming UDPSocket, at place: Int
  ) throws(SystemError) {
    // Of a family that is late, too, the answer has a second.
    if roundCount == 0 || answer != nil { lastRound = SystemClock.sinceBoot() }
    try request.withBytes { bytes throws(SystemError) in
      do throws(SystemError) {
        try socket.send(bytes)
      } catch {
        // Perhaps an ICMP error, for an earlier request. Then nothing was sent now.
        try socket.send(bytes)
      }
      tags.append(bytes.extracting(first: Version2.tagSize))
    }
    roundCount = max(roundCount, 1)
    sockets[place] = socket
  }

  /// Takes the socket of the last request, if there was one.
  mutating func takeSocket(at place: Int) -> UDPSocket {
    var socket = UDPSocket.none
    swap(&socket, &sockets[place])
    return socket
  }

  /// Takes what has come. ICMP errors end nothing: anybody can forge them, and a server may still start.
  @inline(never)
  mutating func receive(with key: borrowing KeyedMAC) {
    guard isOpen else { return }
    for place in 0..<sockets.count where sockets[place].isOpen {
      for _ in 0..<Self.batchSize where isOpen && sockets[place].isOpen {
        do throws(SystemError) {
          guard let length = try sockets[place].receive(into: memory) else { break }
          if length == Version2.answerSize, let answer = opened(with: key) {
            take(answer, at: place)
          }
        } catch {}
      }
    }
  }

  private func opened(with key: borrowing KeyedMAC) -> Version2.Answer? {
    let keys = unsafe key.keys
    for place in 0..<tags.count / Version2.tagSize {
      let start = place * Version2.tagSize
      let answer = memory.withElements(0..<memory.count) { datagram in
        tags.bytes.withElements(start..<start + Version2.tagSize) { tag in
          unsafe keys.pointee.answerTag.span.withUnsafeBufferPointer { answerTag in
            unsafe keys.pointee.answerMask.span.withUnsafeBufferPointer { answerMask in
              unsafe Version2.Answer(
                opening: datagram, to: tag, tagKey: DerivedKey(answerTag),
                maskKey: DerivedKey(answerMask))
            }
          }
        }
      }
      if answer != nil { return answer }
    }
    return nil
  }

  /// Through one address of a host, a limit may allow what it does not allow through another.
  private mutating func take(_ new: Version2.Answer, at place: Int) {
    let isRefused = new.result == Version2.Answer.notAllowed
    if isRefused { sockets[place] = .none } else { isOpen = false }
    guard answer == nil || !isRefused else { return }
    answer = new
    answerTime = max(0, SystemClock.wall())
    lastRound = SystemClock.sinceBoot()
  }

  /// Whether all addresses that were asked have answered.
  var isAnswered: Bool {
    for place in 0..<sockets.count where sockets[place].isOpen { return false }
    return answer != nil
  }

  /// Wants no answer any more.
  mutating func close() { isOpen = false }

  func addReaders(to set: inout PollSet) {
    guard isOpen else { return }
    for place in 0..<sockets.count where sockets[place].isOpen {
      set.addReader(sockets[place].number)
    }
  }

  /// The addresses that the requests left from.
  func hasLeft(from address: Address) -> Bool {
    for place in 0..<sockets.count where sockets[place].isOpen {
      do throws(SystemError) {
        if try sockets[place].localAddress().parts?.address == address { return true }
      } catch {}
    }
    return false
  }
}
