import KnockBase
import KnockProtocol
import KnockServer

/// All that the server counts, at one moment.
struct Counters {
  let tally: Tally
  let setsChanged: UInt64
  let setsNotChanged: UInt64
  let repeats: UInt64
  let commands: CommandRunner.Counters
  let running: Int
  let queued: UInt64
  let open: Int
  let notOpened: UInt64
  let filesBehind: Int

  /// Calls `body` with each counter and its value.
  @inline(never)
  func visit(_ body: (Counter, UInt64) -> Void) {
    body(Counter("accepted", .total, "Knocks that were accepted."), tally.accepted)
    var refusals = Cases<Refusal>()
    while let refusal = refusals.next() {
      let counter = Counter(
        refusal.name, .refused, "Datagrams that were refused, by the first reason for it.")
      body(counter, tally.refused(refusal))
    }
    body(
      Counter(
        "kernel-dropped", .total, "Datagrams that the kernel dropped: wrong form, or no room."),
      tally.kernelDropped)
    body(Counter("set-changed", .total, "Knocks for which the set is up to date."), setsChanged)
    body(
      Counter("set-not-changed", .total, "Knocks for which the set could not be changed."),
      setsNotChanged)
    body(Counter("repeated", .total, "Repeats, whose command did not run again."), repeats)
    let commandHelp: Literal = "Commands, by how they ended."
    body(Counter("succeeded", .command, commandHelp), commands.succeeded)
    body(Counter("failed", .command, commandHelp), commands.failed)
    body(Counter("timed-out", .command, commandHelp), commands.timedOut)
    body(Counter("not-started", .command, commandHelp), commands.notStarted)
    body(Counter("running", .gauge, "Commands that run."), UInt64(running))
    body(Counter("queued", .gauge, "Knocks that wait for their command."), queued)
    body(Counter("open", .gauge, "Grants that are open and will be closed again."), UInt64(open))
    body(
      Counter("not-opened", .total, "Knocks that there was no room for in the journal of grants."),
      notOpened)
    body(
      Counter("state-behind", .gauge, "Files of the state directory that could not be written."),
      UInt64(filesBehind))
  }

  /// Changes if any of the numbers does, and those of users, which are parts of others.
  var checksum: UInt64 {
    var checksum = Checksum()
    visit { _, value in checksum.add(value) }
    checksum.add(UInt64(bitPattern: tally.clockSkew))
    return checksum.value
  }

  /// Writes all in the text format of Prometheus.
  func write(to text: inout TextOutput) {
    var last: Counter?
    visit { counter, value in
      counter.write(value, to: &text, after: last)
      last = counter
    }
    text.append("# HELP pyknock_clock_skew_seconds How far the last sender's clock was ahead.\n")
    text.append("# TYPE pyknock_clock_skew_seconds gauge\npyknock_clock_skew_seconds ")
    text.append(signedSeconds: tally.clockSkew)
    text.append("\n")
  }
}

extension Tally {
  /// How many users the file of `--metrics` has by name.
  private static let namedUsers = 1000

  /// Writes what each user has done, in the text format of Prometheus.
  func writeUsers(_ table: borrowing Users, to text: inout TextOutput) {
    writeUsers(
      table, "accepted", " Knocks that were accepted, by user.\n", to: &text
    ) { $0.accepted }
    writeUsers(
      table, "refused", " Datagrams with the key of a user that were refused.\n", to: &text
    ) { $0.refused }
  }

  @inline(never)
  private func writeUsers(
    _ table: borrowing Users, _ kind: Literal, _ help: Literal,
    to text: inout TextOutput, _ count: (UserCounts) -> UInt64
  ) {
    func writeName() {
      text.append("pyknock_user_")
      text.append(kind)
      text.append("_total")
    }
    func write(_ value: UInt64) {
      text.append("\"} ")
      text.append(value)
      text.append("\n")
    }
    text.append("# HELP ")
    writeName()
    text.append(help)
    text.append("# TYPE ")
    writeName()
    text.append(" counter\n")
    var others: UInt64?
    for slot in 0..<table.usedCount {
      guard let user = table[slot], let counts = counts(of: user) else { continue }
      let value = count(counts)
      guard counts.order < Self.namedUsers else {
        // The receiver has written the numbers, and may have been taken over.
        others = (others ?? 0) &+ value
        continue
      }
      writeName()
      text.append("{user=\"")
      text.append(user.name)
      write(value)
    }
    guard let others else { return }
    writeName()
    // No user can have this name.
    text.append("{user=\"(others)")
    write(others)
  }
}

extension Message.Parts {
  /// ` accepted=2 bad-mac=0`, and so on.
  mutating func appendInterpolation(_ counters: Counters) {
    counters.visit { counter, value in
      _ = unsafe " \(cString: counter.name)=\(value)" as Message
    }
  }
}
