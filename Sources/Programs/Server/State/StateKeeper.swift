import KnockBase
import KnockProtocol
import KnockServer

/// Keeps the files of the state directory as the memory of the process is, while the server runs.
struct StateKeeper: ~Copyable {
  private var directory: StateDirectory
  private var replays: ReplayFile
  private var replayFile: StateFile
  /// Nil without a journal of grants.
  private var journal: GrantState.Journal?
  private var knocks: LastKnocks
  private var knockFile: StateFile
  /// When the mark of the replay memory is written next, in monotonic microseconds.
  private var nextMark = Int64.max

  init(
    _ directory: consuming StateDirectory, replays: consuming ReplayFile,
    _ replayFile: consuming StateFile, _ journal: consuming GrantState.Journal?,
    _ knocks: consuming LastKnocks
  ) {
    self.directory = directory
    self.replays = replays
    self.replayFile = replayFile
    self.journal = journal
    knockFile = StateFile(.users, size: knocks.fileSize, needsAll: true)
    self.knocks = knocks
  }

  /// Writes the files for the first time, and fills the receiver's memory.
  @inline(never)
  mutating func begin(_ grants: inout Grants, _ memory: inout ReplayMemory, at moment: Moment) {
    saveReplays()
    // An earlier server may have had the same trouble.
    if isReplayFileBehind { replays.doubtEarlier(now: moment.monotonic) }
    saveAll(&grants)
    replays.fill(&memory, at: moment)
  }

  /// Takes over when the users last knocked, and writes that file for the first time. Nothing depends on it.
  @inline(never)
  mutating func logBegin(_ users: borrowing Users) {
    var isWhole = false
    do throws(StateFailure) {
      isWhole = try LastKnockState.read(&knocks, users, in: directory)
    } catch {}
    if !isWhole {
      log.warning(
        "warning: --state: 'users' is damaged, or no file of ours: last knocks are forgotten")
    }
    saveKnocks()
  }

  var isReplayFileBehind: Bool { replayFile.isBehind }

  /// How many files lack something that could not be written.
  var behindCount: Int {
    mutating get {
      (replayFile.isBehind ? 1 : 0) + (journal?.file.isBehind == true ? 1 : 0)
        + (knockFile.isBehind ? 1 : 0)
    }
  }

  /// When `advance` has something to do, in monotonic microseconds.
  var nextDeadline: Int64 {
    mutating get {
      min(
        min(nextMark, replayFile.nextDeadline),
        min(knockFile.nextDeadline, journal?.file.nextDeadline ?? .max))
    }
  }

  /// Writes a knock before the server acts on it or answers it. If the disk cannot take it, the memory has it.
  ///
  /// - Parameter isAccepted: whether it counts as the last knock of its user.
  mutating func record(
    _ fingerprint: Fingerprint, of user: User, from source: Address?, isAccepted: Bool
  ) {
    let moment = Moment(wall: SystemClock.wall(), monotonic: SystemClock.sinceBoot())
    replays.append(fingerprint, at: moment)
    saveReplays()
    guard isAccepted else { return }
    knocks.record(LastKnock(time: moment.wall, source: source), of: user)
    if !knockFile.isBehind { saveKnocks() }
  }

  /// Forgets the last knock of a user who is gone, or has another key.
  mutating func forgetKnock(at slot: Int) {
    if knocks.remove(at: slot), !knockFile.isBehind { saveKnocks() }
  }

  /// Writes what has changed of the grants, before the server acts on it.
  mutating func save(_ grants: inout Grants) {
    if grants.areChanged { saveAll(&grants) }
  }

  /// Tries again what could not be written, and writes the mark from time to time.
  mutating func advance(_ grants: inout Grants, now: Int64) {
    if min(nextMark, replayFile.nextDeadline) <= now { saveReplays() }
    if grants.areChanged || journal?.file.nextDeadline ?? .max <= now { saveAll(&grants) }
    if knockFile.isBehind, knockFile.nextDeadline <= now { saveKnocks() }
  }

  /// Writes that the server ends in order, if nothing is missing.
  mutating func end(_ grants: inout Grants) {
    advance(&grants, now: .max)
    guard !replayFile.isBehind else { return }
    do throws(SystemError) {
      // Only what is on the disk counts as complete.
      try replayFile.sync()
      try directory.sync()
      saveReplays(isLast: true)
      try replayFile.sync()
    } catch {
      log.warning("warning: --state: 'replay' may not be on the disk: \(error)")
    }
  }

  @inline(never)
  private mutating func saveReplays(isLast: Bool = false) {
    let now = SystemClock.monotonic()
    nextMark = now + ReplayFile.markInterval
    replayFile.logSave(in: &directory, now: now) { file, all throws(SystemError) in
      try replays.save(all: all, isLast: isLast, now: SystemClock.sinceBoot()) {
        bytes, offset throws(SystemError) in try file.write(bytes, at: offset)
      }
    }
  }

  @inline(never)
  private mutating func saveKnocks() {
    knockFile.size = knocks.fileSize
    knockFile.logSave(in: &directory, now: SystemClock.monotonic()) {
      file, all throws(SystemError) in
      try knocks.save(all: all) { bytes, offset throws(SystemError) in
        try file.write(bytes, at: offset)
      }
    }
  }

  private mutating func saveAll(_ grants: inout Grants) {
    journal?.logSave(&grants, in: &directory)
  }
}
