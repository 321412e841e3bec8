import KnockBase
import KnockProtocol

/// A search for the public address of this host: the one that servers beyond NAT see.
///
/// Asks all STUN servers at once, each at up to two of its addresses. It asks again after 0.5, 1.5 and 3.5 seconds (RFC
/// 8489, section 6.2.1). The first good answer counts.
struct PublicAddressSearch: ~Copyable {
  private static let firstPause = 500 * Microseconds.millisecond
  private static let patience = 5 * Microseconds.second
  /// The most addresses of a server that are asked, so that there is room for the other servers.
  private static let addressesPerServer = 2
  /// No answer is longer (bytes). Source: RFC 8489, section 6.1.
  private static let answerSize = 1280

  private let family: AddressFamily
  /// Whether the host sees us with IPv4: over IPv4, or through NAT64.
  private let onlyInet: Bool
  private let servers: StunServerList
  /// The local address to ask from, if it matters.
  private let source: SocketAddress?
  private let answer: Storage<UInt8>
  /// The addresses of each server; nil once they are asked.
  private var resolutions = InlineArray<4, Resolution?> { _ in nil }
  private var unresolvedCount: Int
  private var queries: FixedList<StunQuery>
  private var pause = firstPause
  private var nextSend: Int64 = 0
  /// 0 if no question waits for its answer.
  private var end: Int64 = 0
  private var isFinished = false
  private var address: Address?
  private var hasLogged = false

  enum Result {
    case pending
    /// Nil if no server told.
    case ended(Address?)
  }

  var result: Result { isFinished ? .ended(address) : .pending }

  @inline(never)
  init(
    _ family: AddressFamily, onlyInet: Bool, _ servers: StunServerList,
    from source: SocketAddress?
  ) throws(SystemError) {
    guard let answer = Storage<UInt8>.mapped(Self.answerSize) else { throw .outOfMemory }
    let queries = try FixedList<StunQuery>(capacity: 8)
    self.queries = queries
    self.family = family
    self.onlyInet = onlyInet
    self.servers = servers
    self.source = source
    self.answer = answer
    unresolvedCount = servers.count
  }

  /// Begins to look the servers up.
  @inline(never)
  mutating func begin(now: Int64) throws(SystemError) {
    for index in 0..<servers.count {
      guard let server = servers[index] else { continue }
      resolutions[index] = try Resolution(of: server.host, port: server.port, family: family)
    }
    advance(now: now)
  }

  func asks(_ servers: StunServerList) -> Bool { self.servers.isSame(as: servers) }

  func asks(
    _ servers: StunServerList, _ family: AddressFamily, onlyInet: Bool, from source: SocketAddress?
  ) -> Bool {
    self.family == family && self.onlyInet == onlyInet && asks(servers)
      && self.source?.parts?.address == source?.parts?.address
  }

  @inline(never)
  private mutating func append(_ query: consuming StunQuery) {
    if queries.count < queries.capacity { queries.append(query) }
  }

  /// Takes what has come, and asks what is due.
  @inline(never)
  mutating func advance(now: Int64) {
    guard !isFinished else { return }
    takeResolutions(now: now)
    for index in 0..<queries.count {
      guard let address = queries[index].receive(into: answer, onlyInet: onlyInet) else {
        continue
      }
      self.address = address
      isFinished = true
      return
    }
    if now < end, nextSend <= now {
      for index in 0..<queries.count { queries[index].send() }
      nextSend += pause
      pause *= 2
    }
    isFinished = !canHear(now: now)
    if end <= now { end = 0 }
  }

  /// Begins to ask the servers whose addresses are known by now.
  @inline(never)
  private mutating func takeResolutions(now: Int64) {
    for index in 0..<servers.count {
      guard let server = servers[index] else { continue }
      resolutions[index]?.advance()
      guard resolutions[index]?.isFinished(family) == true else { continue }
      if let failure = resolutions[index]?.failure {
        append(StunQuery(to: server, failed: failure))
      }
      var position = 0
      while position < Self.addressesPerServer,
        let address = resolutions[index]?.address(at: position)
      {
        append(StunQuery(to: server, at: address, from: source))
        position += 1
      }
      resolutions[index] = nil
      unresolvedCount -= 1
      (pause, nextSend, end) = (Self.firstPause, now, now + Self.patience)
    }
  }

  /// Whether an answer can still come.
  @inline(never)
  private mutating func canHear(now: Int64) -> Bool {
    if unresolvedCount > 0 { return true }
    for index in 0..<queries.count where queries[index].descriptor >= 0 { return now < end }
    return false
  }

  /// Adds the descriptors to wait for. Returns the next moment at which something is due.
  @inline(never)
  mutating func addReaders(to set: inout PollSet) -> Int64 {
    guard !isFinished else { return .max }
    for index in 0..<servers.count { resolutions[index]?.addReaders(to: &set) }
    for index in 0..<queries.count { set.addReader(queries[index].descriptor) }
    return end == 0 ? .max : min(nextSend, end)
  }

  /// Logs, once, why each server did not tell.
  @inline(never)
  mutating func logFailures() {
    guard isFinished, address == nil, !hasLogged else { return }
    hasLogged = true
    for index in 0..<queries.count { queries[index].logFailure() }
    log.error(
      "no STUN server told our public \(onlyInet ? "IPv4" as Literal : "IPv6") address")
  }
}

/// The searches of a call: one for each family, list of servers, and source.
struct PublicAddressSearches: ~Copyable {
  private var items: FixedList<PublicAddressSearch>

  @inline(never)
  init() throws(SystemError) { items = try FixedList(capacity: 2 * HostList.maximumCount) }

  /// Begins a search, unless it has begun.
  @inline(never)
  mutating func find(
    _ family: AddressFamily, onlyInet: Bool, _ servers: StunServerList,
    from source: SocketAddress?, now: Int64
  ) throws(SystemError) -> PublicAddressSearch.Result {
    for index in 0..<items.count
    where items[index].asks(servers, family, onlyInet: onlyInet, from: source) {
      return items[index].result
    }
    guard items.count < items.capacity else { return .ended(nil) }
    items.append(
      try PublicAddressSearch(family, onlyInet: onlyInet, servers, from: source))
    let last = items.count - 1
    try items[last].begin(now: now)
    // Perhaps there is nobody to ask, and so nothing to wait for.
    return items[last].result
  }

  @inline(never)
  mutating func advance(now: Int64) {
    for index in 0..<items.count { items[index].advance(now: now) }
  }

  /// Adds the descriptors to wait for. Returns the next moment at which something is due.
  @inline(never)
  mutating func addReaders(to set: inout PollSet) -> Int64 {
    var deadline = Int64.max
    for index in 0..<items.count {
      deadline = min(deadline, items[index].addReaders(to: &set))
    }
    return deadline
  }

  /// Logs why the servers in a list did not tell.
  mutating func logFailures(of servers: StunServerList) {
    for index in 0..<items.count where items[index].asks(servers) {
      items[index].logFailures()
    }
  }
}
