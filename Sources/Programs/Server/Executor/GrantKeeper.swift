import CSystem
import KnockBase
import KnockProtocol
import KnockServer

/// Keeps the journal of grants while the server runs, and knows what was asked for last.
struct GrantKeeper: ~Copyable {
  private let report: Report
  private var grants: Grants
  /// How long what is opened stays open; nil for until it is closed.
  private let seconds: Int64?
  private var recent: RecentKnocks
  /// Knocks whose command did not have to run again.
  private(set) var repeatedCount: UInt64 = 0
  /// Opens that there was no room for.
  private(set) var refusedCount: UInt64 = 0

  init(
    _ grants: consuming Grants, recent: consuming RecentKnocks, _ settings: ServerSettings,
    report: Report
  ) {
    self.report = report
    self.grants = grants
    self.recent = recent
    seconds = settings.closeAfterSeconds
  }

  /// How many addresses are open, as far as they are to be closed again.
  var count: Int { grants.count }

  /// Whether there must be something to close with.
  var mustClose: Bool { seconds != nil || count > 0 }

  /// How many of them are being closed.
  var closingCount: Int { grants.closingCount }

  /// When `takeDue` has something to give, in monotonic milliseconds.
  var nextDeadline: Int64? { grants.nextDeadline }

  /// Notes what is about to be done. Nil, with a report, where it must not be done: what cannot be closed
  /// again is not opened.
  mutating func order(_ knock: Knock, now: Int64) -> Order? {
    let isRepeated = recent.note(knock, now: now)
    if isRepeated { repeatedCount += 1 }
    switch knock.command {
    case .close:
      let closesGrant =
        !isRepeated && grants.beginClose(knock.address, wallNow: Clock.wallMicroseconds())
      return Order(knock, closesGrant: closesGrant, isRepeated: isRepeated)
    case .open:
      if let seconds {
        guard
          grants.open(knock.address, seconds: seconds, wallNow: Clock.wallMicroseconds(), now: now)
        else {
          refuse(knock)
          return nil
        }
      } else {
        // Of a server with another command line.
        grants.forget(knock.address)
      }
      return Order(knock, closesGrant: false, isRepeated: isRepeated)
    }
  }

  private mutating func refuse(_ knock: Knock) {
    recent.forget(knock.address)
    refusedCount += 1
    var line = Line(.warning)
    line.append("not opened: ")
    line.append(knock)
    line.append(": ")
    line.append(count)
    line.append(" addresses are open, all that --grant-capacity allows")
    report.write(line)
  }

  /// Takes an address whose time is over, to be closed.
  mutating func takeDue(now: Int64) -> Order? {
    guard let address = grants.takeDue(wallNow: Clock.wallMicroseconds(), now: now) else {
      return nil
    }
    recent.forget(address)
    return Order(Knock(command: .close, address: address), closesGrant: true)
  }

  /// Hears that a set could not be changed, before a command runs.
  mutating func noteFailure(_ order: Order) {
    if order.closesGrant { grants.noteFailure(order.knock.address) }
  }

  /// Hears that an order is carried out, or could not be.
  ///
  /// - Returns: whether it is to be tried once more at once, since it was asked for again meanwhile.
  @discardableResult
  @inline(never)
  mutating func ended(_ order: Order, succeeded: Bool, now: Int64) -> Bool {
    let isWantedAgain = !succeeded && recent.noteFailure(order.knock)
    guard order.closesGrant else { return isWantedAgain }
    // It is the journal that tries again.
    if isWantedAgain { recent.forget(order.knock.address) }
    switch grants.endClose(order.knock.address, succeeded: succeeded, now: now) {
    case .done: break
    case .retriedSoon: write(order, ", trying again in a minute")
    case .retriedLater: write(order, ", trying again in an hour")
    case .givenUp: write(order, ", giving up: it may stay open")
    }
    return false
  }

  private func write(_ order: Order, _ what: StaticString) {
    var line = Line(.warning)
    line.append("not closed: ")
    line.append(order.knock)
    line.append(what)
    report.write(line)
  }

  /// Has all that is open end now.
  mutating func endAll(now: Int64) { grants.endAll(now: now) }
}
