import CSodium
import CSystem
import KnockBase
import KnockProtocol

/// Finds out under which address we are seen from outside: asks all servers at once, at up to two of their
/// addresses of a family, again after 0.5, 1.5 and 3.5 s (RFC 8489, section 6.2.1). The first good answer counts.
struct OutsideAddress: ~Copyable {
  private static let firstPause: Int64 = 500
  private static let patience: Int64 = 5000
  /// The most addresses of a server that are asked, so that none takes the place of another.
  private static let addressesPerServer = 2
  /// No answer of a server is longer (bytes): see RFC 8489, section 6.1.
  private static let answerSize = 1280

  /// To one address of a server, or to none where it has none.
  private struct Question: ~Copyable {
    let server: StunServer
    let address: SocketAddress?
    private let request = StunRequest.random()
    /// Nil where nothing more can come.
    var socket: UDPSocket?
    var failure = Failure.silence

    init(to server: StunServer, at address: SocketAddress? = nil) {
      self.server = server
      self.address = address
    }

    /// For poll(2).
    var number: Int32? {
      switch socket {
      case .some(let socket): socket.number
      case nil: nil
      }
    }

    mutating func send() {
      let request = request
      attempt { socket throws(SystemError) in
        try request.withBytes { bytes throws(SystemError) in try socket.send(bytes) }
      }
    }

    /// Our address, if a good answer is there.
    mutating func receive(into memory: borrowing Storage<UInt8>, _ family: AddressFamily)
      -> Address?
    {
      var length: Int?
      attempt { socket throws(SystemError) in length = try socket.receive(into: memory) }
      guard let length else { return nil }
      do throws(StunRequest.Failure) {
        guard length <= memory.count else { throw .malformed }
        return try memory.withElements(0..<length) { bytes throws(StunRequest.Failure) in
          try request.address(in: bytes, family: family)
        }
      } catch {
        failure = .answer(error)
        return nil
      }
    }

    private mutating func attempt(_ body: (borrowing UDPSocket) throws(SystemError) -> Void) {
      do throws(SystemError) {
        switch socket {
        case .some(let socket): try body(socket)
        case nil: return
        }
      } catch {
        failure = .system(error)
        socket = nil
      }
    }

    func writeFailure(to report: Report, mayName: Bool) {
      var line = Line()
      line.append("STUN server")
      if mayName {
        line.append(" ")
        line.append(quoted: server.host)
      }
      if let address {
        line.append(" at ")
        line.append(address)
      }
      line.append(": ")
      switch failure {
      case .silence: line.append("no answer")
      case .answer(let failure): line.append(failure.reason)
      case .system(let error): line.append(error)
      case .resolution(let failure): line.append(failure)
      }
      report.write(line)
    }
  }

  /// Why a question has no answer.
  private enum Failure {
    case silence
    case answer(StunRequest.Failure)
    case system(SystemError)
    case resolution(Resolution.Failure)
  }

  private let family: AddressFamily
  private let answer: Storage<UInt8>
  private var questions = InlineArray<8, Question?> { _ in nil }
  private var count = 0

  /// Nil, with a report, where no server tells.
  ///
  /// - Parameters:
  ///   - source: the local address to ask from, of this family.
  ///   - mayName: whether no name of a server can be the key, after a mistake in the command line.
  static func find(
    _ family: AddressFamily, _ servers: StunServers, from source: SocketAddress?, _ report: Report,
    mayName: Bool
  ) -> Address? {
    guard let answer = Storage<UInt8>.mapped(answerSize) else { return nil }
    var search = OutsideAddress(family, answer)
    for index in 0..<servers.count {
      if let server = servers[index] { search.ask(server, from: source) }
    }
    guard let address = search.run() else {
      search.writeFailures(to: report, mayName: mayName)
      return nil
    }
    return address
  }

  private init(_ family: AddressFamily, _ answer: consuming Storage<UInt8>) {
    self.family = family
    self.answer = answer
  }

  private mutating func ask(_ server: StunServer, from source: SocketAddress?) {
    do throws(Resolution.Failure) {
      let addresses = try Resolution(
        of: server.host, port: server.port, family: family == .inet ? AF_INET : AF_INET6,
        numeric: false)
      var position = 0
      while position < Self.addressesPerServer, let address = addresses.address(at: position) {
        var question = Question(to: server, at: address)
        do throws(SystemError) {
          question.socket = try UDPSocket(to: address, from: source)
        } catch { question.failure = .system(error) }
        append(question)
        position += 1
      }
    } catch {
      var question = Question(to: server)
      question.failure = .resolution(error)
      append(question)
    }
  }

  private mutating func append(_ question: consuming Question) {
    guard count < questions.count else { return }
    questions[count] = consume question
    count += 1
  }

  private mutating func run() -> Address? {
    let start = Clock.monotonicMilliseconds()
    let end = start + Self.patience
    var pause = Self.firstPause
    var nextTime = start
    while true {
      let now = Clock.monotonicMilliseconds()
      guard now < end else { return nil }
      if nextTime <= now {
        for index in 0..<count { questions[index]?.send() }
        nextTime += pause
        pause *= 2
      }
      guard waitForAnswers(until: min(nextTime, end)) else { return nil }
      for index in 0..<count {
        if let address = questions[index]?.receive(into: answer, family) { return address }
      }
    }
  }

  /// False where none can come any more.
  private func waitForAnswers(until moment: Int64) -> Bool {
    var entries = InlineArray<8, pollfd>(
      repeating: pollfd(fd: -1, events: Int16(POLLIN), revents: 0))
    var isWaiting = false
    for index in 0..<count {
      switch questions[index] {
      case .some(let question):
        guard let number = question.number else { continue }
        entries[index].fd = number
        isWaiting = true
      case nil: continue
      }
    }
    guard isWaiting else { return false }
    do throws(SystemError) {
      try poll(&entries, until: moment)
      return true
    } catch { return false }
  }

  private func writeFailures(to report: Report, mayName: Bool) {
    for index in 0..<count {
      switch questions[index] {
      case .some(let question): question.writeFailure(to: report, mayName: mayName)
      case nil: continue
      }
    }
    report.write(
      family == .inet
        ? "no STUN server told our outside IPv4 address"
        : "no STUN server told our outside IPv6 address")
  }
}

extension StunRequest {
  fileprivate static func random() -> StunRequest {
    var transaction = InlineArray<12, UInt8>(repeating: 0)
    var span = transaction.mutableSpan
    unsafe span.withUnsafeMutableBufferPointer { bytes in
      guard let start = bytes.baseAddress else { return }
      unsafe randombytes_buf(start, bytes.count)
    }
    return StunRequest(transaction: transaction)
  }
}
