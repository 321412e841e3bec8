import CSystem
import KnockProtocol

/// Keeps the journal of grants while the server runs.
struct GrantKeeper: ~Copyable {
  private let report: Report
  private var grants: Grants
  /// How long what is opened stays open; nil for until it is closed.
  private let seconds: Int64?
  /// Opens that there was no room for.
  private(set) var refusedCount: UInt64 = 0

  init(_ grants: consuming Grants, _ settings: ServerSettings, report: Report) {
    self.report = report
    self.grants = grants
    seconds = settings.closeAfterSeconds
  }

  /// How many addresses are open, as far as they are to be closed again.
  var count: Int { grants.count }

  /// How many of them are being closed.
  var closingCount: Int { grants.closingCount }

  /// When `takeDue` has something to give, in monotonic milliseconds.
  var nextDeadline: Int64? { grants.nextDeadline }

  /// Notes what is about to be done. False, with a report, where it must not be done: what cannot be
  /// closed again is not opened.
  mutating func note(_ knock: Knock, now: Int64) -> Bool {
    switch knock.command {
    case .close: grants.beginClose(knock.address, wallNow: Clock.wallSeconds())
    case .open:
      guard let seconds else {
        // Of a server with another command line.
        grants.forget(knock.address)
        return true
      }
      let isNoted = grants.open(
        knock.address, seconds: seconds, wallNow: Clock.wallSeconds(), now: now)
      guard isNoted else {
        refusedCount += 1
        var line = report.line()
        line.append("not opened: ")
        line.append(knock)
        line.append(": ")
        line.append(count)
        line.append(" addresses are open, all that --grant-capacity allows")
        report.write(line)
        return false
      }
    }
    return true
  }

  /// Takes an address whose time is over, to be closed.
  mutating func takeDue(now: Int64) -> Knock? {
    grants.takeDue(wallNow: Clock.wallSeconds(), now: now).map {
      Knock(command: .close, address: $0)
    }
  }

  /// Hears that a set could not be changed, before a command runs.
  mutating func noteFailure(_ knock: Knock) {
    if knock.command == .close { grants.noteFailure(knock.address) }
  }

  /// Hears that a command has ended, or could not be started.
  mutating func commandEnded(_ knock: Knock, succeeded: Bool, now: Int64) {
    guard knock.command == .close else { return }
    switch grants.endClose(knock.address, succeeded: succeeded, now: now) {
    case .done: return
    case .retried: write(knock, ", trying again in a minute")
    case .givenUp: write(knock, ", giving up: it may still be open")
    }
  }

  private func write(_ knock: Knock, _ what: StaticString) {
    var line = report.line()
    line.append("not closed: ")
    line.append(knock)
    line.append(what)
    report.write(line)
  }

  /// Has all that is open end now.
  mutating func endAll(now: Int64) { grants.endAll(now: now) }
}
