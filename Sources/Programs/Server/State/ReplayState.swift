import KnockBase
import KnockServer

/// The replay memory that survives a restart: `replay` in the state directory.
enum ReplayState {
  /// Checks an existing file without a change.
  static func check(in directory: borrowing StateDirectory) throws(StateFailure) {
    try OldStateFile.check(.replay, in: directory, ReplayFile.capacity)
  }

  /// An empty replay memory.
  static func memory(_ capacity: Int) throws(StateFailure) -> ReplayMemory {
    guard let index = PositionIndex.mapped(forRecords: capacity) else {
      throw .system(.outOfMemory)
    }
    return ReplayMemory(
      records: try StateFile.memory(capacity, of: Fingerprint.self), index: index,
      shares: UserBuckets(try StateFile.memory(Users.slotCount, of: UserBuckets.Element.self)))
  }

  /// What the file holds; nil in `found` if there is none.
  @inline(never)
  static func restore(
    in directory: borrowing StateDirectory, capacity: Int, at moment: Moment, drift: Int64,
    found: inout ReplayFile.Found?
  ) throws(StateFailure) -> ReplayFile {
    var replays = ReplayFile(
      page: try StateFile.memory(StateFile.pageCount, of: UInt64.self),
      records: try StateFile.memory(capacity, of: ReplayFile.Record.self), boot: Boot.identity(),
      drift: drift)
    guard let old = try OldStateFile(.replay, in: directory) else { return replays }
    let page = try old.page()
    let oldCapacity = try old.capacity(of: page, ReplayFile.capacity)
    let records = try StateFile.memory(oldCapacity ?? 1, of: ReplayFile.Record.self)
    if oldCapacity != nil { try old.copy(to: records) }
    let foundReplays = replays.restore(
      page, records,
      isWhole: oldCapacity.map { old.size == ReplayFile.size(forRecords: $0) } ?? false,
      at: moment)
    records.unmap()
    page.unmap()
    found = foundReplays
    guard foundReplays.fits else { throw .tooSmall(.replay, count: foundReplays.count) }
    return replays
  }
}
