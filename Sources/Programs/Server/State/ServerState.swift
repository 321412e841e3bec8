import KnockBase
import KnockServer

/// What a server remembers. With a state directory, the next server remembers it too.
struct ServerState: ~Copyable {
  /// Nil without a state directory. It stays locked until this value ends.
  private(set) var keeper: Resident<StateKeeper?>
  let replays: ReplayMemory
  let grants: Grants

  /// What was in the files.
  struct Found {
    /// Nil if there was no replay memory.
    fileprivate(set) var replays: ReplayFile.Found?
    fileprivate(set) var grants = Grants.Found()
    /// Whether the replay memory can be written.
    fileprivate(set) var isBehind = false
  }

  private init(
    _ keeper: consuming Resident<StateKeeper?>, _ replays: consuming ReplayMemory,
    _ grants: consuming Grants
  ) {
    self.keeper = keeper
    self.replays = replays
    self.grants = grants
  }

  @inline(never)
  private static func make(
    _ settings: ServerSettings, found: inout Found
  ) throws(StateFailure) -> ServerState {
    var replays = try ReplayState.memory(settings.replayCapacity)
    guard let directory = try directory(settings, onlyChecks: false) else {
      return ServerState(Resident(nil), replays, try GrantState.inMemory(settings.grantCapacity))
    }
    let moment = Moment(wall: SystemClock.wall(), monotonic: SystemClock.sinceBoot())
    let file = try ReplayState.restore(
      in: directory, capacity: settings.replayCapacity, at: moment, drift: settings.drift,
      found: &found.replays)
    // What the clock showed at an accepted knock is at least its time stamp minus the drift.
    let latest = moment.wall.addingSaturated(found.replays?.timeBehind ?? 0)
      .subtractingSaturated(found.replays?.drift ?? settings.drift)
    var journal: GrantState.Journal?
    var grants = try GrantState.grants(
      settings, in: directory, latest: latest, journal: &journal, found: &found.grants)
    var keeper = Resident<StateKeeper?>(
      StateKeeper(
        directory, replays: file,
        StateFile(
          .replay, size: ReplayFile.size(forRecords: settings.replayCapacity),
          needsAll: found.replays?.needsAll ?? true), journal, try LastKnockState.memory()))
    keeper.value?.begin(&grants, &replays, at: moment)
    found.isBehind = keeper.value?.isReplayFileBehind == true
    return ServerState(keeper, replays, grants)
  }

  /// Locks the state directory, if there is one, and reads what is in it.
  ///
  /// - Parameter found: what was in the files, also if an error is thrown after they were read.
  static func open(
    _ settings: ServerSettings, found: inout Found
  ) throws(StateError) -> ServerState {
    do throws(StateFailure) {
      return try make(settings, found: &found)
    } catch { throw StateError(path: settings.stateDirectory, failure: error) }
  }

  /// Takes over when the users last knocked, and logs if something is wrong with that.
  mutating func logBegin(_ users: borrowing Users) { keeper.value?.logBegin(users) }

  /// Checks existing files without a change.
  static func check(_ settings: ServerSettings) throws(StateError) {
    do throws(StateFailure) {
      guard let directory = try directory(settings, onlyChecks: true) else { return }
      try ReplayState.check(in: directory)
      try GrantState.check(in: directory)
    } catch {
      // A missing directory would be made.
      if case .system(.notFound) = error, let path = settings.stateDirectory {
        do throws(SystemError) { return try path.checkPlace() } catch {}
      }
      throw StateError(path: settings.stateDirectory, failure: error)
    }
  }

  private static func directory(
    _ settings: ServerSettings, onlyChecks: Bool
  ) throws(StateFailure) -> StateDirectory? {
    guard let path = settings.stateDirectory else { return nil }
    return try StateFailure.wrapping { () throws(SystemError) in
      try StateDirectory(path, of: settings.sandbox.user?.number ?? 0, onlyChecks: onlyChecks)
    }
  }
}

extension ServerState.Found {
  /// Logs what was in the files.
  ///
  /// - Parameter gateDrift: the drift of the gate (microseconds).
  func logAll(drift gateDrift: Int64) {
    let count = replays?.count ?? 0
    let drift = replays?.drift ?? gateDrift
    let reason: Literal? =
      switch replays?.state {
      case .damaged: "the replay memory was damaged, or of an older version"
      case .unfinished: "the last server did not end in order"
      case .complete, nil: isBehind ? "the replay memory cannot be written" : nil
      }
    if let reason {
      log.warning(
        """
        \(reason): what is stamped before now + \(seconds: drift) s is refused; \
        \(count) knocks remembered
        """)
    } else if replays != nil {
      log.info("\(count) knocks remembered")
    }
    // No drift explains such a step of the clock.
    if let behind = replays?.timeBehind, behind > drift {
      log.warning(
        """
        warning: the clock went back: it is \(seconds: behind) s behind the time when this \
        server last ran, and all knocks are refused until it is set; if it is right, remove \
        'replay' from the state directory
        """)
    }
    if grants.damagedCount > 0 {
      log.warning(
        """
        warning: a part of the journal of grants is damaged, or of an older version \
        (\(grants.damagedCount) records), and what it stands for may stay open; \(openGrants)
        """)
    } else if grants.count > 0 {
      log.info("\(openGrants)")
    }
  }

  private var openGrants: Message {
    """
    \(grants.count) \(grants.count == 1 ? "grant is" : "grants are") open, \
    \(grants.overdueCount) of them overdue
    """
  }
}
