import KnockBase
import KnockProtocol
import KnockServer

/// Runs the command for each action in a child process of its own, and never waits for one.
///
/// Actions queue up and run in the order of `ActionQueue.removeNext`. Two for the same address never overtake each
/// other and never run at the same time. A child gets its own process group, /dev/null as standard input, only the
/// standard descriptors, and a time limit. When the limit is over, its group gets TERM, and KILL if that does not help.
@safe struct CommandRunner: ~Copyable {
  /// The most actions that come from the executor. The number of closes at a time is limited. Only a command that was
  /// running is added again.
  private static let ownCapacity = GrantKeeper.closesAtOnce + ServerSettings.maximumJobs
  /// With so many actions, the queue takes no more knocks. Only a receiver that an attacker has taken over sends more.
  private static let fullCount = Int(Receiver.queueCapacity) + ownCapacity
  /// How many actions can wait. There are never more.
  private static let queueCapacity = fullCount + ownCapacity
  /// From TERM to KILL, and from KILL until the runner gives the command up.
  private static let grace = 2 * Microseconds.second
  /// How long a running command may still take once the server stops.
  private static let stopPatience = 5 * Microseconds.second

  private struct Job {
    enum Phase { case running, terminated, killed }
    let process: ChildProcess
    let action: Action
    /// When the next phase begins, in monotonic microseconds.
    var deadline: Int64
    var phase = Phase.running
  }

  /// How commands ended.
  struct Counters {
    var succeeded: UInt64 = 0
    var failed: UInt64 = 0
    var timedOut: UInt64 = 0
    var notStarted: UInt64 = 0
  }

  /// What happened to the command for an action.
  struct Event {
    enum Change {
      case started(ChildProcess)
      case notStarted(SystemError)
      /// There is nothing to run.
      case empty
      /// It has run too long and was sent TERM.
      case terminated
      /// It did not end after TERM and was sent KILL.
      case killed
      /// It did not even end after KILL. The runner no longer waits for it.
      case givenUp
      case ended(ChildProcess.Ending)
    }
    let action: Action
    let change: Change
  }

  private var commands: Commands
  /// How long a command may run (microseconds).
  private let timeout: Int64
  private var environment: CommandEnvironment
  /// One for each command that may run at the same time.
  private let jobs: Storage<Job?>
  private(set) var runningCount = 0
  private var queue: ActionQueue
  private(set) var counters = Counters()

  /// Nil if out of memory.
  @inline(never)
  init?(_ commands: consuming Commands, settings: ServerSettings) {
    guard let actions = Storage<Action>.mapped(Self.queueCapacity),
      let jobs = Storage<Job?>.mapped(settings.jobs),
      let environment = CommandEnvironment()
    else { return nil }
    self.commands = commands
    self.timeout = settings.commandTimeoutSeconds * Microseconds.second
    for slot in 0..<jobs.count { jobs[slot] = nil }
    self.jobs = jobs
    self.environment = environment
    self.queue = ActionQueue(actions)
  }

  var queuedCount: Int { queue.count }

  /// Whether another knock may wait.
  var hasRoom: Bool { queue.count < Self.fullCount }

  var hasCommands: Bool { !commands.isEmpty }

  var canOpen: Bool { commands.canOpen }

  var canClose: Bool { commands.canClose }

  /// Runs other commands from now on.
  mutating func replace(_ new: consuming Commands) { commands = new }

  @inline(never)
  mutating func enqueue(_ action: Action) { _ = queue.append(action) }

  /// How many knocks of a user may wait while there are other users.
  static let shareCount = Int(Receiver.queueCapacity) / 4

  /// Whether so many wait.
  func isShareUsed(by user: UserName) -> Bool {
    guard queue.count >= Self.shareCount else { return false }
    var count = 0
    // A grant that has expired has the number 0.
    for index in 0..<queue.count where queue[index].user == user && queue[index].number != 0 {
      count += 1
    }
    return count >= Self.shareCount
  }

  /// The number of the action that waits or runs, and whose command an action needs. Nil if there is none.
  ///
  /// - Parameter isShared: whether it may be the command of another action for the same knock. Then it is the last.
  func number(neededBy action: Action, isShared: Bool) -> UInt32? {
    func isNeeded(_ other: Action) -> Bool {
      other.knock == action.knock && (isShared || other.number == action.number)
    }
    for index in (0..<queue.count).reversed() where isNeeded(queue[index]) {
      return queue[index].number
    }
    for index in 0..<jobs.count {
      if let other = jobs[index]?.action, isNeeded(other) { return other.number }
    }
    return nil
  }

  /// Removes the first knock that waits whose user is gone.
  mutating func dequeue(notOf users: borrowing Users) -> Action? {
    queue.removeFirst { !$0.closesGrant && !users.has($0.user, $0.key) }
  }

  /// Removes the first action that waits, or the first that opens.
  mutating func dequeue(onlyOpens: Bool) -> Action? {
    queue.removeFirst { !onlyOpens || $0.knock.command == .open }
  }

  /// When the next command reaches its limit, in monotonic microseconds.
  var nextDeadline: Int64 {
    var next = Int64.max
    guard runningCount > 0 else { return next }
    for index in 0..<jobs.count {
      if let job = jobs[index] { next = min(next, job.deadline) }
    }
    return next
  }

  /// Does the first thing that is due, and returns it. It acts on a command that has reached its limit, or starts the
  /// next one. Nil if nothing is due.
  mutating func advance(now: Int64) -> Event? { checkLimit(now: now) ?? startNext() }

  @inline(never)
  private mutating func checkLimit(now: Int64) -> Event? {
    guard runningCount > 0 else { return nil }
    for index in 0..<jobs.count {
      guard let job = jobs[index], job.deadline <= now else { continue }
      jobs[index]?.deadline = now + Self.grace
      let change: Event.Change
      switch job.phase {
      case .running:
        job.process.sendToGroup(.terminate)
        jobs[index]?.phase = .terminated
        change = .terminated
      case .terminated:
        job.process.sendToGroup(.kill)
        jobs[index]?.phase = .killed
        change = .killed
      case .killed:
        // It is stuck in the kernel. Should it end later, `reap` takes it for an unknown process.
        counters.timedOut += 1
        jobs[index] = nil
        runningCount -= 1
        change = .givenUp
      }
      return Event(action: job.action, change: change)
    }
    return nil
  }

  @inline(never)
  private mutating func startNext() -> Event? {
    guard queue.count > 0, let slot = freeSlot,
      let action = Self.removeNext(of: &queue, notIn: jobs)
    else { return nil }
    var change = Event.Change.empty
    do throws(SystemError) {
      if let process = try start(action) {
        jobs[slot] = Job(
          process: process, action: action, deadline: SystemClock.monotonic() + timeout)
        runningCount += 1
        change = .started(process)
      }
    } catch {
      counters.notStarted += 1
      change = .notStarted(error)
    }
    return Event(action: action, change: change)
  }

  /// Returns nil if the command is empty.
  @inline(never)
  private mutating func start(_ action: Action) throws(SystemError) -> ChildProcess? {
    environment.set(action.knock, by: action.user)
    return try commands.expand(for: action.knock) { words throws(SystemError) in
      guard words.count > 0 else { return nil }
      return try unsafe ChildProcess(
        starting: words.pointer, environment: environment.variables.pointer)
    }
  }

  private var freeSlot: Int? {
    for index in 0..<jobs.count where jobs[index] == nil { return index }
    return nil
  }

  private static func removeNext(
    of queue: inout ActionQueue, notIn jobs: borrowing Storage<Job?>
  ) -> Action? {
    queue.removeNext { address in
      for index in 0..<jobs.count where jobs[index]?.action.knock.address == address {
        return true
      }
      return false
    }
  }

  /// Reaps a child that has ended. Returns nil if no command ran in it: commands may leave children behind.
  mutating func reap(_ process: ChildProcess) -> Event? {
    var ended: Job?
    for index in 0..<jobs.count where jobs[index]?.process == process {
      ended = jobs[index]
      jobs[index] = nil
      runningCount -= 1
    }
    // Until it is reaped, no other group can have its number.
    if let ended, ended.phase != .running { process.sendToGroup(.kill) }
    let ending = process.reap()
    guard let ended else { return nil }
    if ended.phase != .running {
      counters.timedOut += 1
    } else if ending == .exited(status: 0) {
      counters.succeeded += 1
    } else {
      counters.failed += 1
    }
    return Event(action: ended.action, change: .ended(ending))
  }

  /// Moves the limits of the running commands (microseconds).
  mutating func postpone(by time: Int64) {
    for index in 0..<jobs.count where jobs[index] != nil { jobs[index]?.deadline += time }
  }

  /// Shortens the limits of the running commands, because the server stops.
  mutating func hurry(now: Int64) {
    for index in 0..<jobs.count {
      guard let job = jobs[index], job.phase == .running else { continue }
      jobs[index]?.deadline = min(job.deadline, now + Self.stopPatience)
    }
  }
}
