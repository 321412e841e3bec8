import KnockBase
import KnockServer

/// The replay memory that survives a restart: `replay` in the state directory.
enum ReplayState {
  /// What was in the file.
  struct Found {
    /// How many knocks are remembered.
    var count = 0
    /// Whether knocks may have been lost.
    var isDamaged = false
    /// How far the clock is behind the time when the last server ran (microseconds).
    var timeBehind: Int64 = 0
  }

  /// Checks an existing file without a change.
  static func check(in directory: borrowing StateDirectory) throws(StateFailure) {
    try StateFile.check(.replay, in: directory, ReplayFile.capacity)
  }

  /// The replay memory, from the state directory if there is one.
  static func memory(
    _ settings: ServerSettings, in directory: borrowing StateDirectory?, found: inout Found
  ) throws(StateFailure) -> ReplayMemory {
    switch directory {
    case .some(let directory):
      return try open(
        in: directory, capacity: settings.replayCapacity, now: SystemClock.wall(),
        drift: settings.drift, found: &found)
    case nil:
      guard
        let records = Storage<ReplayMemory.Record>.mapped(settings.replayCapacity),
        let index = PositionIndex.mapped(forRecords: settings.replayCapacity)
      else { throw .system(.outOfMemory) }
      return ReplayMemory(records: records, index: index)
    }
  }

  /// Opens the file with what it holds, or makes one. A damaged file is replaced by one that holds what is
  /// left, and that refuses every knock that the lost part may have held.
  ///
  /// - Parameters:
  /// - now: microseconds since the Unix epoch by our clock.
  /// - drift: the drift of the gate (microseconds).
  /// - found: what was in the file.
  private static func open(
    in directory: borrowing StateDirectory, capacity: Int, now: Int64, drift: Int64,
    found: inout Found
  ) throws(StateFailure) -> ReplayMemory {
    guard let file = try StateFile.existing(.replay, in: directory) else {
      return try renew(
        nil, in: directory, capacity: capacity, time: now, drift: drift,
        isDamaged: false)
    }
    let oldCapacity = try file.capacity(ReplayFile.capacity)
    var old: ReplayMemory?
    var time = now
    if let oldCapacity, try file.size == ReplayFile.size(forRecords: oldCapacity) {
      let mapped = try file.map(
        size: ReplayFile.size(forRecords: oldCapacity), reserving: true)
      let replayFile = ReplayFile(existing: mapped.storage(at: 0, count: StateFile.headerCount))
      let mark = replayFile.mark
      var memory = try memory(in: mapped, capacity: oldCapacity, replayFile)
      found.isDamaged = !memory.restore()
      mapped.releasePages()
      if let mark {
        time = max(mark, now)
        memory.refuse(upTo: mark.subtractingSaturated(drift))
      } else {
        found.isDamaged = true
      }
      memory.forgetStale(now: now, drift: drift)
      found.timeBehind = time.subtractingSaturated(now)
      found.count = memory.count
      if !found.isDamaged, oldCapacity == capacity { return memory }
      old = consume memory
    } else {
      found.isDamaged = true
    }
    return try renew(
      old, in: directory, capacity: capacity, time: time, drift: drift,
      isDamaged: found.isDamaged)
  }

  /// Makes a new file, which replaces the old one if there was one. It is complete on the disk before it gets
  /// its name.
  private static func renew(
    _ old: consuming ReplayMemory?, in directory: borrowing StateDirectory, capacity: Int,
    time: Int64, drift: Int64, isDamaged: Bool
  ) throws(StateFailure) -> ReplayMemory {
    let file = try StateFile(replacing: .replay, in: directory)
    let mapped = try file.map(size: ReplayFile.size(forRecords: capacity), reserving: true)
    let replayFile = ReplayFile(
      new: mapped.storage(at: 0, count: StateFile.headerCount), capacity: capacity, time: time)
    var memory = try memory(in: mapped, capacity: capacity, replayFile)
    if let old {
      guard memory.adopt(old) else {
        throw .tooSmall(.replay, count: old.count)
      }
    }
    if isDamaged { memory.refuse(upTo: time.addingSaturated(drift)) }
    try file.takeName(in: directory)
    return memory
  }

  private static func memory(
    in file: MappedFile, capacity: Int, _ replayFile: consuming ReplayFile
  ) throws(StateFailure) -> ReplayMemory {
    guard let index = PositionIndex.mapped(forRecords: capacity) else {
      throw .system(.outOfMemory)
    }
    let records: Storage<ReplayMemory.Record> = file.storage(
      at: FileHeader.pageSize, count: capacity)
    return ReplayMemory(records: records, index: index, file: replayFile)
  }
}
