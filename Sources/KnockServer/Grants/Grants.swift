import KnockBase
import KnockProtocol

/// The grants: the addresses that access is open for, what was opened for each, and when it is to be closed. With
/// `--state` they are kept in a file, the journal.
///
/// A grant is written to the journal before anything is opened. It is erased when all is closed. So a later process
/// can close what this one leaves open, however this one ends. To change a grant, a second record is written before
/// the first is erased, so that one of them is always whole.
///
/// An address has a grant for each user who opened it. After a restart with other settings, a user may have several:
/// each is for what it opened. All grants of an address share one command, and one of them has its state. When that
/// one ends, the state goes to another. The end of the last runs the command to close with.
///
/// Records hold times by the system's clock, because a later process must understand them (microseconds since
/// the Unix epoch). This process goes by deadlines in microseconds since boot.
public struct Grants: ~Copyable {
  /// After a close has failed, it is tried again after a minute, three times, and then every hour.
  static let quickRetries: UInt8 = 3
  static let quickInterval = 60 * Microseconds.second
  static let slowInterval = 60 * quickInterval

  /// The records as they are to be in the file. A later process reads them.
  private let records: Storage<Record>
  public let names: SetNames
  private let place: UInt64
  /// A bit for each record that the file lacks.
  private let changed: Storage<UInt64>
  /// Whether the file lacks any.
  public private(set) var areChanged = false
  private var table: GrantTable
  private var nextSequence: UInt64 = 1
  private var round: UInt32 = 0
  private var nextCheck = 0
  /// The system's clock minus the time since boot, when the clock was most ahead. `.max` before anybody looked at it.
  private var clockOffset = Int64.max
  /// How many close commands wait or run, for all grants.
  public private(set) var closingCount = 0

  /// The size of a file for a number of grants (bytes): a header, a record each, and one more to write to.
  public static func fileSize(forGrants capacity: Int) -> Int {
    FileHeader.pageSize + (capacity + 1) * MemoryLayout<Record>.stride
  }

  /// Writes the header into a first page that is all zero.
  public static func writeHeader(capacity: Int, to page: borrowing Storage<UInt64>) {
    FileHeader.write(.grants, capacity: capacity, to: page)
  }

  /// How many grants an existing file has room for.
  public static func capacity(
    of page: borrowing Storage<UInt64>
  ) throws(FileHeader.Failure) -> Int {
    try FileHeader.capacity(of: page, .grants)
  }

  /// - Parameters:
  ///   - records: one more than the greatest number of grants; all zero.
  ///   - names: without names, or with some that no other `Grants` has.
  ///   - changed: a bit for each of them, all zero.
  ///   - states, heap, areas: as many as `records`; `areas` are all zero.
  ///   - index: for as many.
  ///   - place: a number that no other boot and no other network of this machine has; 0 if it is not known. What a
  ///     command did elsewhere is gone.
  ///   - secret: random. Users choose addresses, and must not know which ones have the same hash.
  public init(
    records: consuming Storage<Record>, changed: consuming Storage<UInt64>,
    names: consuming SetNames, states: consuming Storage<State>, heap: consuming Storage<UInt32>,
    index: consuming PositionIndex, areas: consuming Storage<UInt32>, place: UInt64,
    secret: UInt64
  ) {
    precondition(records.count >= 2 && records.count <= 1 << 30)
    precondition(states.count == records.count && changed.count * 64 >= records.count)
    self.records = records
    self.names = names
    self.place = place
    self.changed = changed
    table = GrantTable(states: states, heap: heap, index: index, areas: areas, secret: secret)
  }

  /// How many grants there are.
  public var count: Int { table.count }

  public var isFull: Bool { count >= capacity }

  private var capacity: Int { records.count - 1 }

  // What an earlier process has left

  /// What `adopt` has found.
  public struct Found {
    /// How many grants.
    public var count = 0
    /// How many of them have expired.
    public var overdueCount = 0
    /// How many records are damaged. One may be unfinished: its process was killed before the command ran.
    public var damagedCount = 0
    /// Whether there was room for all.
    public var fits = true
    /// Whether a grant is in a set.
    public var hasSets = false

    public init() {}
  }

  /// Takes over the records of another process, which may still be writing them. They come to places that are not
  /// later than theirs. So `save` may write them to the same file.
  ///
  /// - Parameters:
  ///   - wallNow: microseconds since the Unix epoch.
  ///   - now: microseconds since boot.
  ///   - latest: a time that the clock has reached before. If it shows less, nobody can tell what has ended.
  @inline(never)
  public mutating func adopt(
    _ others: borrowing Storage<Record>, names otherNames: borrowing SetNames, wallNow: Int64,
    now: Int64, latest: Int64 = .min
  ) -> Found {
    var found = Found()
    clockOffset = wallNow.subtractingSaturated(now)
    let areNamesWhole = otherNames.isWhole
    // While these records are in the same file, those of this process must be the later ones.
    for position in 0..<others.count
    where others[position].grant != nil && others[position].sequence < 1 << 62 {
      nextSequence = max(nextSequence, others[position].sequence + 1)
    }
    for position in 0..<others.count {
      let record = others[position]
      guard var grant = record.grant else {
        if !record.isEmpty { found.damagedCount += 1 }
        continue
      }
      if grant.set != 0 {
        let number = areNamesWhole ? otherNames.withName(grant.set) { names.number(of: $0) } : nil
        guard let number else {
          found.damagedCount += 1
          continue
        }
        grant.set = number
      }
      let isHere = place != 0 && record.place == place
      if grant.command == .succeeded, !isHere { grant.command = .pending }
      // If the state of a command was on its way to another grant, the later record has it.
      if grant.holdsCommand, let other = holder(of: grant.address) {
        if table[other].sequence < record.sequence {
          setCommand(.shared, at: other)
        } else {
          grant.command = .shared
        }
      }
      if let old = self.position(of: grant) {
        guard table[old].sequence < record.sequence else { continue }
        remove(at: old)
        found.count -= 1
      }
      found.count += 1
      found.hasSets = found.hasSets || grant.set != 0
      guard count < capacity else {
        found.fits = false
        continue
      }
      let isCertain = wallNow >= max(grant.asked, latest)
      func deadline(_ end: Int64) -> Int64 {
        end == Grant.never ? .max : now + (isCertain ? max(0, end - wallNow) : 0)
      }
      let position = write(
        State(grant, deadline: deadline(grant.ends), setDeadline: deadline(grant.setEnds)),
        replacing: nil)
      // To be compared with another record for the same. In the new file the numbers are others.
      table[position].sequence = record.sequence
      table[position].isAdopted = true
    }
    for place in 0..<count {
      let position = table.position(at: place)
      if table[position].deadline <= now { found.overdueCount += 1 }
      // The record with the state is lost.
      if table[position].grant.command == .shared,
        holder(of: table[position].grant.address) == nil
      {
        setCommand(.pending, at: position)
      }
    }
    return found
  }

  /// Forgets the names of sets that no grant is in.
  public func forgetUnusedNames() {
    var used = InlineArray<64, UInt64>(repeating: 0)
    for place in 0..<count {
      let number = Int(table[table.position(at: place)].grant.set)
      used[number / 64] |= 1 << UInt64(number % 64)
    }
    names.removeAll { used[Int($0) / 64] >> UInt64($0 % 64) & 1 == 1 }
  }

  /// Changes a record that is in no file yet.
  @inline(never)
  private mutating func setCommand(_ command: Grant.Command, at position: Int) {
    table[position].grant.command = command
    write(Record(table[position].grant, sequence: nextSequence, place: place), at: position)
    nextSequence += 1
  }

  /// If the clock was behind when `adopt` or the first call looked at it, and has been set since, the grants of the
  /// other process end sooner. Those of this process need no clock, but the keys of their users may have expired.
  ///
  /// - Returns: whether the clock has been set.
  public mutating func followClock(wallNow: Int64, now: Int64) -> Bool {
    let offset = wallNow.subtractingSaturated(now)
    if clockOffset == .max { clockOffset = offset }
    let step = offset.subtractingSaturated(clockOffset)
    guard step >= Microseconds.second else { return false }
    clockOffset += step
    for place in 0..<count {
      let position = table.position(at: place)
      guard table[position].isAdopted, !table[position].hasEnded, table[position].deadline < .max
      else { continue }
      table[position].deadline = max(now, table[position].deadline.subtractingSaturated(step))
    }
    table.deadlinesChanged()
    return true
  }

  // Opening

  /// What a knock opens, by the settings and the limits of its user.
  public struct Opening {
    public let user: UserName
    public let key: KeyFingerprint
    /// See `Grant`. 0 if there is no set.
    public let set: UInt16
    public let prefixLength: Int
    /// How long the kernel keeps it in the set (microseconds); nil for ever.
    public let setDuration: Int64?
    /// How long it is open (microseconds); nil until it is closed.
    let duration: Int64?
    /// Whether what the command does is closed again.
    public let closesCommand: Bool
    /// Whether there is a command to close with.
    let hasCloseCommand: Bool

    public init(
      user: UserName, key: KeyFingerprint, set: UInt16, prefixLength: Int, setDuration: Int64?,
      duration: Int64?, closesCommand: Bool, hasCloseCommand: Bool
    ) {
      self.user = user
      self.key = key
      self.set = set
      self.prefixLength = prefixLength
      self.setDuration = setDuration
      self.duration = duration
      self.closesCommand = closesCommand
      self.hasCloseCommand = hasCloseCommand
    }

    /// Whether there is something to close later.
    public var isGrant: Bool { self.set != 0 || closesCommand }
  }

  /// Records that access is about to be opened, or stays open longer. What is open is never shortened.
  ///
  /// - Parameters:
  ///   - isRepeat: whether the command does not run, since it has just run.
  ///   - wallNow, now: as for `adopt`.
  ///   - isShared: whether one user may have only a quarter of the room.
  /// - Returns: whether the command must run.
  @inline(never)
  public mutating func open(
    _ address: Address, _ opening: Opening, isRepeat: Bool, isShared: Bool, wallNow: Int64,
    now: Int64
  ) throws(Full) -> Action.Run {
    let wallNow = Self.clamped(wallNow)
    let run: Action.Run = isRepeat ? .repeated : .runs
    if !opening.closesCommand { leaveCommandOpen(address) }
    guard opening.isGrant else { return run }
    let old = position(of: address, opening)
    if old == nil {
      guard count < capacity else { throw .noRoom(count: count) }
      guard hasShare(opening.user, isShared: isShared) else {
        throw .noShare(count: share(isShared: isShared))
      }
    }
    func end(_ duration: Int64?, from start: Int64, never: Int64) -> Int64 {
      duration.map { start + $0 } ?? never
    }
    var state = State(
      Grant(
        address, user: opening.user, key: opening.key,
        prefixLength: UInt8(opening.prefixLength), set: opening.set, since: wallNow,
        asked: wallNow, ends: end(opening.duration, from: wallNow, never: Grant.never),
        setEnds: end(opening.setDuration, from: wallNow, never: Grant.never)),
      deadline: end(opening.duration, from: now, never: .max),
      setDeadline: end(opening.setDuration, from: now, never: .max))
    if let old { state.takeOver(table[old]) }
    var result = run
    let source = holder(of: address)
    var isShared = false
    if let source, table[source].grant.user != opening.user, !table[source].hasEnded {
      isShared = true
      if opening.closesCommand {
        let runs = table[source].openCommand(opening, isRepeat: isRepeat)
        rewrite(source)
        state.grant.command = .shared
        result = runs ? .runs : isRepeat ? .repeated : .openAlready
      }
    } else {
      // It takes over the command of a grant that ends, and of one of the user with other settings.
      if let source { state.takeCommand(from: table[source]) }
      if opening.closesCommand, !state.openCommand(opening, isRepeat: isRepeat) {
        result = .repeated
      }
    }
    _ = write(state, replacing: old)
    if let source, !isShared, source != old {
      table[source].leaveCommand()
      // No end of a command ends this attempt to close any more.
      if table[source].hasEnded {
        table[source].deadline = min(table[source].deadline, now + Self.quickInterval)
      }
      replace(source)
    }
    return result
  }

  /// How long the set is to hold what was just opened (microseconds); nil for ever.
  @inline(never)
  public mutating func setTime(_ address: Address, _ opening: Opening, now: Int64) -> Int64? {
    guard var duration = opening.setDuration else { return nil }
    if let position = position(of: address, opening) {
      guard table[position].setDeadline < .max else { return nil }
      // An earlier knock may have asked for more.
      duration = max(duration, table[position].setDeadline.subtractingSaturated(now))
    }
    return duration
  }

  /// Why a grant has no room.
  public enum Full: Error, Equatable, Sendable {
    case noRoom(count: Int)
    /// The user has so many grants.
    case noShare(count: Int)
  }

  private func share(isShared: Bool) -> Int { isShared ? max(capacity / 4, 1) : capacity }

  private func hasShare(_ user: UserName, isShared: Bool) -> Bool {
    let share = share(isShared: isShared)
    return count < share || count(of: user) < share
  }

  /// How long an address would stay open after `open` (microseconds), `.max` until it is closed. It depends on nothing
  /// that others have.
  ///
  /// - Returns: nil if the user has too many grants.
  @inline(never)
  public mutating func timeIfOpened(
    _ address: Address, _ opening: Opening, isShared: Bool, now: Int64
  ) -> Int64? {
    let new = min(opening.duration ?? .max, opening.setDuration ?? .max)
    guard opening.isGrant else { return new }
    if let old = timeLeft(address, of: opening.user, now: now) { return max(old, new) }
    return hasShare(opening.user, isShared: isShared) ? new : nil
  }

  /// How long an address stays open for a user (microseconds), `.max` until it is closed. Nil if they have no grant of
  /// it.
  @inline(never)
  public mutating func timeLeft(_ address: Address, of user: UserName, now: Int64) -> Int64? {
    var end: Int64?
    _ = table.position(of: address) { state in
      if state.grant.user == user, !state.hasEnded, !state.isRevoked, state.setNeed > now {
        end = max(end ?? 0, state.setNeed)
      }
      return false
    }
    return end.map { $0 == .max ? .max : $0 - now }
  }

  private func count(of user: UserName) -> Int {
    var found = 0
    for place in 0..<count where table[table.position(at: place)].grant.user == user { found += 1 }
    return found
  }

  /// The grant of an address that has the state of the command.
  @inline(never)
  private mutating func holder(of address: Address) -> Int? {
    table.position(of: address) { $0.holdsCommand }
  }

  /// Whether the address is in the set after an attempt to open it that has failed.
  public enum Presence { case absent, unknown }

  /// Records that the set could not be changed after `open`.
  @inline(never)
  public mutating func recordUnchangedSet(
    _ address: Address, _ opening: Opening, _ presence: Presence
  ) {
    guard let position = position(of: address, opening) else {
      return
    }
    switch presence {
    case .absent: removeFromSet(at: position)
    case .unknown: table[position].isSetDoubtful = !table[position].wasInSet
    }
  }

  /// Records that the set holds only the address itself after `open`, and not its range.
  @inline(never)
  public mutating func recordOnlyHost(_ address: Address, _ opening: Opening) {
    let position = position(of: address, opening)
    guard let position, table[position].grant.isRange else { return }
    var state = table[position]
    state.grant.narrow()
    // By other settings, an earlier knock may have opened it alone, too.
    let same = self.position(of: state.grant)
    if let same { state.takeOver(table[same]) }
    _ = write(state, replacing: position)
    if let same { remove(at: same) }
  }

  /// Records how an open command has ended.
  ///
  /// - Parameter isWantedAgain: whether it runs again if it has failed.
  /// - Returns: whether it must run again, because another knock has relied on it.
  public mutating func endOpen(
    _ address: Address, succeeded: Bool, isWantedAgain: Bool
  ) -> Bool {
    guard let position = table.position(of: address, where: { $0.opening > 0 }) else {
      return isWantedAgain
    }
    let runsAgain =
      isWantedAgain || !succeeded && table[position].opening == 1 && table[position].isReliedOn
    if !runsAgain { table[position].opening -= 1 }
    let isLast = table[position].opening == 0
    if runsAgain || isLast { table[position].isReliedOn = false }
    if isLast { table[position].grant.command = succeeded ? .succeeded : .failed }
    rewrite(position)
    return runsAgain
  }

  /// From now on nothing undoes what the command for an address has done.
  private mutating func leaveCommandOpen(_ address: Address) {
    while let position = table.position(of: address, where: { $0.grant.command != .none }) {
      table[position].grant.command = .none
      replace(position)
    }
  }

  // The sets

  /// Until when other grants need addresses of a range in a set.
  public struct Need {
    /// The last address that this holds for.
    public let last: AddressNumber
    /// In microseconds since boot. Nil if none needs them, `.max` for ever.
    public let deadline: Int64?
  }

  /// Until when grants need the addresses from `first` on.
  ///
  /// - Parameter onlySame: in a set where elements may overlap, only grants of the same range need its element.
  @inline(never)
  public func need(
    for range: AddressRange, from first: AddressNumber, in set: UInt16, near address: Address,
    onlySame: Bool
  ) -> Need {
    var last = range.last
    var deadline: Int64?
    table.visit(near: address) { state in
      guard state.grant.set == set, !state.hasEnded else { return }
      let other = state.grant.range
      guard other.family == range.family else { return }
      if onlySame ? other == range : other.first <= first && first <= other.last {
        deadline = max(deadline ?? 0, state.setNeed)
        last = min(last, other.last)
      } else if !onlySame, other.first > first, other.first <= last {
        last = other.first.previous
      }
    }
    return Need(last: last, deadline: deadline)
  }

  /// The next grant that is in a set, by turns. Looks at no more than `limit` positions.
  public mutating func nextToCheck(limit: inout Int) -> (position: Int, grant: Grant)? {
    while limit > 0 {
      limit -= 1
      nextCheck = nextCheck < table.usedCount ? nextCheck + 1 : 0
      // The end of another user's grant of the same address may just have removed what is revoked, too.
      guard table.isUsed(nextCheck), !table[nextCheck].hasEnded, !table[nextCheck].isRevoked else {
        continue
      }
      let grant = table[nextCheck].grant
      if grant.set != 0 { return (nextCheck, grant) }
    }
    return nil
  }

  /// How many positions `nextToCheck` must look at to see all grants.
  public var checkCount: Int { table.usedCount + 1 }

  /// Records that the address of a grant is not in the set any more.
  public mutating func removeFromSet(at position: Int) {
    table[position].grant.closeSet()
    replace(position)
  }

  // Closing

  /// Whether a user has a grant of an address.
  public mutating func hasGrant(_ address: Address, of user: UserName) -> Bool {
    table.position(of: address) { $0.grant.user == user } != nil
  }

  /// Records that all grants that a user has of an address are about to be closed. Call `nextSet` and `endSets` then.
  ///
  /// - Returns: whether a command must close one of them; if so, call `endClose`, too.
  @inline(never)
  public mutating func beginClose(
    _ address: Address, of user: UserName, wallNow: Int64
  ) -> Bool {
    round &+= 1
    let round = round
    var needsCommand = false
    while let position = table.position(
      of: address, where: { $0.round != round && $0.grant.user == user })
    {
      needsCommand = begin(position, wallNow: wallNow) || needsCommand
    }
    return needsCommand
  }

  /// The same for the first grant that has expired. Nil if none has.
  public mutating func beginNextClose(
    wallNow: Int64, now: Int64
  ) -> (grant: Grant, needsCommand: Bool, isRevoked: Bool)? {
    guard let position = table.first, table[position].deadline <= now else { return nil }
    round &+= 1
    let (grant, isRevoked) = (table[position].grant, table[position].isRevoked)
    return (grant, begin(position, wallNow: wallNow), isRevoked)
  }

  @inline(never)
  private mutating func begin(_ position: Int, wallNow: Int64) -> Bool {
    let command = table[position].grant.command
    leaveCommandToOthers(position)
    table[position].round = round
    table[position].deadline = .max
    table[position].hasEnded = true
    table[position].shortenedDeadline = .max
    table[position].isSetTried = false
    let needsCommand = table[position].grant.command != .none
    let leavesCommand = table[position].grant.command != command
    if leavesCommand, table[position].grant.isClosed {
      remove(at: position)
      return false
    }
    if needsCommand {
      table[position].closing += 1
      closingCount += 1
    }
    // From now on the record must not say that the grant lasts longer. If it was open for longer than a record can
    // say, its end is in the past.
    let asked = table[position].grant.asked
    let end = min(max(Self.clamped(wallNow), asked), asked + Record.longest)
    if leavesCommand || table[position].grant.ends > end {
      table[position].grant.ends = min(table[position].grant.ends, end)
      rewrite(position)
    } else {
      table.deadlineChanged(at: position)
    }
    return needsCommand
  }

  /// If other grants of the address share the command of one that ends, the first of them gets its state.
  private mutating func leaveCommandToOthers(_ position: Int) {
    if table[position].grant.command == .shared { table[position].grant.command = .none }
    guard table[position].grant.holdsCommand,
      let heir = table.position(
        of: table[position].grant.address, where: { $0.grant.command == .shared })
    else { return }
    table[heir].takeCommand(from: table[position])
    rewrite(heir)
    table[position].leaveCommand()
  }

  /// The next of the grants whose close has just begun that is in a set.
  public mutating func nextSet(of address: Address) -> (position: Int, grant: Grant)? {
    let round = round
    let position = table.position(of: address) {
      $0.round == round && $0.grant.set != 0 && !$0.isSetTried
    }
    return position.map { ($0, table[$0].grant) }
  }

  /// Records whether a grant from `nextSet` is not in the set any more.
  public mutating func recordSet(at position: Int, isClosed: Bool) {
    table[position].isSetTried = true
    guard isClosed else { return }
    table[position].grant.closeSet()
    // Without a command it is removed next.
    if table[position].grant.command != .none { rewrite(position) }
  }

  /// The result of an attempt to close.
  public enum Closing {
    case done, retriedSoon, retriedLater
    /// It is the end of a grant that had not been opened either.
    case endedUnopened
  }

  /// Ends the attempt for the grants that no command closes, after `nextSet` has returned all.
  public mutating func endSets(of address: Address, now: Int64) -> Closing {
    var closing = Closing.done
    let round = round
    while let position = table.position(
      of: address, where: { $0.round == round && $0.closing == 0 })
    {
      table[position].round = round &- 1
      closing.merge(endAttempt(at: position, now: now))
    }
    return closing
  }

  /// Records how a close command has ended, after `beginClose` or `beginNextClose`. Changes nothing if access was
  /// opened again meanwhile.
  ///
  /// - Parameter succeeded: nil if there was no command to run. That is a success if there never was one.
  public mutating func endClose(
    _ address: Address, succeeded: Bool?, now: Int64
  ) -> Closing {
    var closing = Closing.done
    round &+= 1
    let round = round
    while let position = table.position(
      of: address, where: { $0.round != round && $0.closing > 0 })
    {
      closingCount -= 1
      table[position].round = round
      table[position].closing -= 1
      guard table[position].closing == 0 else { continue }
      guard table[position].hasEnded else {
        if table[position].grant.isClosed { remove(at: position) }
        continue
      }
      if succeeded ?? !table[position].grant.hasCloseCommand {
        table[position].grant.command = .none
      }
      closing.merge(endAttempt(at: position, now: now))
    }
    return closing
  }

  @inline(never)
  private mutating func endAttempt(at position: Int, now: Int64) -> Closing {
    let wasClosed = table[position].grant.isClosed
    if table[position].isSetDoubtful { table[position].grant.closeSet() }
    if table[position].grant.command == .failed { table[position].grant.command = .none }
    guard !table[position].grant.isClosed else {
      remove(at: position)
      return wasClosed ? .done : .endedUnopened
    }
    let isSoon = table[position].failures < Self.quickRetries
    if isSoon { table[position].failures += 1 }
    table[position].deadline = now + (isSoon ? Self.quickInterval : Self.slowInterval)
    rewrite(position)
    return isSoon ? .retriedSoon : .retriedLater
  }

  /// Makes all grants expire now.
  public mutating func expireAll(now: Int64) {
    for place in 0..<count {
      let position = table.position(at: place)
      if table[position].deadline < .max || !table[position].hasEnded {
        table[position].deadline = now
        table[position].shortenedDeadline = .max
      }
    }
    table.deadlinesChanged()
  }

  // What users may not have any more

  /// What becomes of a grant.
  public enum Revision {
    case close
    /// It lasts until then (microseconds since the Unix epoch), if it would last longer. `isInPlace` says whether it is
    /// in the set, and has the prefix, that its user has now.
    case end(at: Int64, isInPlace: Bool)
  }

  /// Looks at all grants. Those that are to be closed are next for `beginNextClose`, and those that are to be shortened
  /// for `shortenNext`.
  ///
  /// - Parameter keepsPlace: whether those that are not in their place stay, from now on. Otherwise they are closed.
  public mutating func revise(
    keepsPlace: Bool, wallNow: Int64, now: Int64, _ revision: (Grant) -> Revision
  ) {
    for place in 0..<count {
      let position = table.position(at: place)
      guard !table[position].hasEnded else { continue }
      let revision = revision(table[position].grant)
      if keepsPlace, case .end(_, isInPlace: false) = revision { table[position].keepsPlace = true }
      switch revision {
      case .end(let end, let isInPlace) where isInPlace || table[position].keepsPlace:
        guard end < table[position].grant.ends else { continue }
        shorten(position, to: end, wallNow: wallNow, now: now)
      case .close, .end:
        table[position].isRevoked = true
        table[position].shortenedDeadline = .max
      }
      table[position].deadline = min(table[position].deadline, now)
    }
    table.deadlinesChanged()
  }

  /// Its record is written when it is next.
  private mutating func shorten(_ position: Int, to end: Int64, wallNow: Int64, now: Int64) {
    var asked = table[position].grant.asked
    // A record can say no later end. So it lasts as long as if it were asked for now.
    if end.subtractingSaturated(asked) > Record.longest {
      asked = max(asked, Self.clamped(wallNow))
      table[position].grant.asked = asked
    }
    let end = min(max(end, asked), asked + Record.longest)
    table[position].grant.ends = end
    let deadline = min(
      table[position].setNeed, now.addingSaturated(max(0, end.subtractingSaturated(wallNow))))
    table[position].shortenedDeadline = deadline
    guard table[position].grant.isTimed else { return }
    table[position].grant.setEnds = min(max(table[position].grant.setEnds, asked), end)
    table[position].setDeadline = min(table[position].setDeadline, deadline)
  }

  /// Shortens the first of the grants that are due, if it is only to be shortened.
  ///
  /// - Returns: the grant, and how long it still lasts (microseconds).
  public mutating func shortenNext(now: Int64) -> (grant: Grant, rest: Int64)? {
    guard let position = table.first, table[position].deadline <= now,
      table[position].shortenedDeadline < .max
    else { return nil }
    let deadline = table[position].shortenedDeadline
    table[position].deadline = deadline
    table[position].shortenedDeadline = .max
    let grant = table[position].grant
    rewrite(position)
    return (grant, max(0, deadline - now))
  }

  /// When the next grant expires, in microseconds since boot.
  public var nextDeadline: Int64? {
    guard let position = table.first, table[position].deadline < .max else { return nil }
    return table[position].deadline
  }

  /// Removes the grant that expires first, and returns it.
  public mutating func removeFirst() -> Grant? {
    guard let position = table.first else { return nil }
    let grant = table[position].grant
    remove(at: position)
    return grant
  }

  // Records

  /// Whose grant of an address shares the command of another, and with which key.
  public mutating func sharer(of address: Address) -> (user: UserName, key: KeyFingerprint)? {
    table.position(of: address) { $0.grant.command == .shared }.map {
      (table[$0].grant.user, table[$0].grant.key)
    }
  }

  private mutating func position(of grant: Grant) -> Int? {
    position(of: grant.address, grant.user, set: grant.set, grant.prefixLength)
  }

  /// The grant that a knock extends. An earlier one may have wanted the range, too, and got the address alone.
  @inline(never)
  private mutating func position(of address: Address, _ opening: Opening) -> Int? {
    position(of: address, opening.user, set: opening.set, UInt8(opening.prefixLength))
      ?? table.position(of: address) {
        $0.grant.isNarrowed && $0.grant.user == opening.user && $0.grant.set == opening.set
      }
  }

  @inline(never)
  private mutating func position(
    of address: Address, _ user: UserName, set: UInt16, _ prefixLength: UInt8
  ) -> Int? {
    table.position(of: address) {
      $0.grant.user == user && $0.grant.set == set && $0.grant.prefixLength == prefixLength
    }
  }

  /// A time that records can hold, whatever the clock says.
  private static func clamped(_ wallNow: Int64) -> Int64 { min(max(wallNow, 0), Record.latest) }

  /// Writes the record of a grant that has changed, or removes the grant if nothing is left to close. While a close
  /// command waits or runs, the end of that removes it.
  @inline(never)
  private mutating func replace(_ position: Int) {
    if table[position].grant.isClosed, table[position].closing == 0 {
      remove(at: position)
    } else {
      rewrite(position)
    }
  }

  /// Writes the record of a grant that has changed. The grant then has another position.
  @inline(never)
  private mutating func rewrite(_ position: Int) {
    _ = write(table[position], replacing: position)
  }

  /// Writes a grant and its record, and then erases what it replaces. Returns its position. The record is empty if
  /// nothing is left to close.
  @inline(never)
  private mutating func write(_ state: State, replacing old: Int?) -> Int {
    let position = table.freePosition()
    let record =
      state.grant.isClosed
      ? Record() : Record(state.grant, sequence: nextSequence, place: place)
    write(record, at: position)
    nextSequence += 1
    if let old { remove(at: old) }
    table.insert(state, at: position)
    return position
  }

  @inline(never)
  private mutating func remove(at position: Int) {
    table.remove(at: position)
    write(Record(), at: position)
  }

  private mutating func write(_ record: Record, at position: Int) {
    records[position] = record
    changed[position / 64] |= 1 << UInt64(position % 64)
    areChanged = true
  }

  /// Calls `write` with what the file lacks, and its offset. New records come before old ones are erased.
  ///
  /// - Parameters:
  ///   - all: whether the file has nothing of this yet, or is that of an earlier process.
  ///   - sync: waits until the new records are on the disk.
  public mutating func save<Failure>(
    all: Bool, _ write: (RawSpan, Int) throws(Failure) -> Void,
    sync: () throws(Failure) -> Void
  ) throws(Failure) {
    if all {
      for index in 0..<changed.count { changed[index] = .max }
    }
    try save(empty: false, write)
    if all { try sync() }
    try save(empty: true, write)
    for index in 0..<changed.count where changed[index] != 0 { changed[index] = 0 }
    areChanged = false
  }

  /// Writes neighbours at once.
  private func save<Failure>(
    empty: Bool, _ write: (RawSpan, Int) throws(Failure) -> Void
  ) throws(Failure) {
    var run = 0..<0
    for index in 0..<changed.count where changed[index] != 0 {
      for position in index * 64..<min(index * 64 + 64, records.count)
      where changed[index] >> UInt64(position % 64) & 1 == 1 && records[position].isEmpty == empty {
        if position > run.upperBound {
          try save(run, write)
          run = position..<position
        }
        run = run.lowerBound..<position + 1
      }
    }
    try save(run, write)
  }

  private func save<Failure>(
    _ run: Range<Int>, _ write: (RawSpan, Int) throws(Failure) -> Void
  ) throws(Failure) {
    guard !run.isEmpty else { return }
    try records.withElements(run) { records throws(Failure) in
      try write(unsafe records.bytes, Self.fileSize(forGrants: run.lowerBound - 1))
    }
  }
}

extension Grants.State {
  /// Takes over what the grant that it replaces has, with the later ends. The clock may have been set since then.
  @inline(never)
  fileprivate mutating func takeOver(_ old: Self) {
    wasInSet = !old.isSetDoubtful
    guard !old.hasEnded else { return }
    grant.since = min(grant.since, old.grant.since)
    func later(_ end: Int64, by time: Int64) -> Int64 {
      min(end.addingSaturated(time), grant.asked + Grants.Record.longest)
    }
    let isShortened = min(shortenedDeadline, old.shortenedDeadline) < .max
    let (end, latest) = (self.end, max(self.end, old.end))
    if latest > end {
      grant.ends = latest < .max ? later(grant.ends, by: latest - end) : Grant.never
    }
    // The set may hold it for longer.
    let isDue = isShortened && latest < .max
    deadline = isDue ? min(deadline, old.deadline) : latest
    shortenedDeadline = isDue ? latest : .max
    if old.setDeadline > setDeadline {
      let time = old.setDeadline - setDeadline
      grant.setEnds = old.setDeadline < .max ? later(grant.setEnds, by: time) : Grant.never
      setDeadline = old.setDeadline
    }
  }

  /// Takes over the command of another grant of the address.
  @inline(never)
  fileprivate mutating func takeCommand(from other: Self) {
    grant.command = other.grant.command
    grant.hasCloseCommand = other.grant.hasCloseCommand
    opening = other.opening
    closing = other.closing
    isReliedOn = other.isReliedOn
    if other.hasEnded, grant.command == .succeeded { grant.command = .pending }
  }

  fileprivate mutating func leaveCommand() {
    grant.command = .none
    opening = 0
    closing = 0
  }

  /// Returns whether the command must run.
  @inline(never)
  fileprivate mutating func openCommand(_ new: Grants.Opening, isRepeat: Bool) -> Bool {
    if grant.command == .none { grant.hasCloseCommand = false }
    grant.hasCloseCommand = grant.hasCloseCommand || new.hasCloseCommand
    // It is open, or it will be: only the end moves.
    if closing == 0, opening > 0 || grant.command == .succeeded {
      isReliedOn = opening > 0
      return false
    }
    if !isRepeat || grant.command == .none { grant.command = .pending }
    if !isRepeat { opening += 1 }
    return !isRepeat
  }
}

extension Grants.Closing {
  /// Of several grants of an address, keeps a result that is not `done`.
  fileprivate mutating func merge(_ other: Self) {
    if self == .done { self = other }
  }
}
