import CSystem
import KnockBase
import KnockProtocol
import KnockServer

/// Runs the command of each accepted knock in a child process of its own, without ever waiting.
///
/// Knocks queue up and are served in order; those for one address never overtake each other, and
/// never run at the same time. A child gets a process group of its own, /dev/null as its standard
/// input, no descriptor but the standard ones, and a limited time: then TERM goes to its group, and
/// KILL when that does not help.
@safe struct CommandRunner: ~Copyable {
  /// How many knocks may wait. No more ever come: the receiver refuses the rest, and only so many grants
  /// are closed at a time, and only what has just run is run once more.
  private static let queueCapacity =
    Int(Receiver.queueCapacity) + Executor.closesAtOnce + ServerSettings.maximumJobs
  /// Between TERM and KILL, and between KILL and no longer waiting.
  private static let graceMilliseconds: Int64 = 2000
  /// What a running command may still take once the server stops.
  private static let stopMilliseconds: Int64 = 5000

  private struct Job {
    enum Phase { case running, terminated, killed }
    let process: Int32
    let order: Order
    /// When the next phase begins, in monotonic milliseconds.
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

  private var commands: Commands
  private let timeoutSeconds: Int64
  private var signalMask: sigset_t
  private let report: Report
  private var environment: CommandEnvironment
  /// As many as may run at the same time.
  private let jobs: Storage<Job?>
  private(set) var runningCount = 0
  private var isStopping = false
  private var queue: OrderQueue
  private(set) var counters = Counters()

  /// Nil where the system has no memory.
  init?(
    _ commands: consuming Commands, settings: ServerSettings, signalMask: sigset_t, report: Report
  ) {
    guard let orders = Storage<Order>.mapped(Self.queueCapacity),
      let jobs = Storage<Job?>.mapped(settings.jobs),
      let environment = CommandEnvironment()
    else { return nil }
    self.commands = commands
    self.timeoutSeconds = settings.commandTimeoutSeconds
    for slot in 0..<jobs.count { jobs[slot] = nil }
    self.jobs = jobs
    self.signalMask = signalMask
    self.report = report
    self.environment = environment
    self.queue = OrderQueue(orders)
  }

  var queuedCount: Int { queue.count }

  /// When `checkDeadlines` has something to do, in monotonic milliseconds.
  var nextDeadline: Int64? {
    guard runningCount > 0 else { return nil }
    var next: Int64?
    for index in 0..<jobs.count {
      if let job = jobs[index] { next = min(next ?? job.deadline, job.deadline) }
    }
    return next
  }

  var hasCommands: Bool { commands.areAny }

  /// Runs other commands from here on.
  mutating func replace(_ new: consuming Commands) { commands = new }

  /// Whether another knock may wait.
  var hasRoom: Bool { queue.count < Self.queueCapacity }

  /// Takes a knock, where there is any command.
  mutating func enqueue(_ order: Order) {
    guard hasCommands else { return }
    _ = queue.append(order)
  }

  /// Starts what may start.
  ///
  /// - Parameter grants: hears how commands that close have ended. Here and below.
  mutating func startReady(_ grants: inout GrantKeeper, now: Int64) {
    while let slot = freeSlot, let order = nextReady() {
      start(order, in: slot, &grants, now: now)
    }
  }

  private var freeSlot: Int? {
    for index in 0..<jobs.count where jobs[index] == nil { return index }
    return nil
  }

  /// Takes the first knock whose address has no command running.
  private mutating func nextReady() -> Order? {
    guard queue.count > 0 else { return nil }
    return Self.removeFirst(of: &queue, notIn: jobs)
  }

  private static func removeFirst(
    of queue: inout OrderQueue, notIn jobs: borrowing Storage<Job?>
  ) -> Order? {
    queue.removeFirst { order in
      let address = order.knock.address
      for index in 0..<jobs.count where jobs[index]?.order.knock.address == address { return false }
      return true
    }
  }

  private mutating func start(
    _ order: Order, in slot: Int, _ grants: inout GrantKeeper, now: Int64
  ) {
    let knock = order.knock
    environment.set(knock)
    let process = commands.expand(for: knock) { words in
      words.count == 0
        ? nil
        : unsafe csys_spawn(words.pointer, environment.variables.pointer, &signalMask, 1)
    }
    guard let process else {
      if report.verbosity >= .verbose {
        report.write(line("the command is empty", of: knock, as: .debug))
      }
      grants.ended(order, succeeded: true, now: now)
      return
    }
    guard process > 0 else {
      counters.notStarted += 1
      var line = line("command not started", of: knock)
      line.append(": ")
      line.append(SystemError(number: -process))
      report.write(line)
      return fail(order, &grants, now: now)
    }
    jobs[slot] = Job(process: process, order: order, deadline: now + timeoutSeconds * 1000)
    runningCount += 1
    if report.verbosity >= .debug {
      var line = line("command started", of: knock, as: .debug)
      line.append(": process ")
      line.append(process)
      report.write(line)
    }
  }

  /// Reaps a child that has ended. It may be one that a command has left behind.
  mutating func reap(_ process: Int32, _ grants: inout GrantKeeper) {
    var ended: Job?
    for index in 0..<jobs.count where jobs[index]?.process == process {
      ended = jobs[index]
      jobs[index] = nil
      runningCount -= 1
    }
    // Before it is reaped, its number cannot belong to another group.
    if let ended, ended.phase != .running { kill(-process, SIGKILL) }
    let result = csys_reap(process)
    guard let ended else { return }
    finish(ended, result: result)
    let now = Clock.monotonicMilliseconds()
    guard result == 0 else { return fail(ended.order, &grants, now: now) }
    grants.ended(ended.order, succeeded: true, now: now)
  }

  /// Tells that a command has failed. It runs once more where that was asked for meanwhile.
  @inline(never)
  private mutating func fail(_ order: Order, _ grants: inout GrantKeeper, now: Int64) {
    if grants.ended(order, succeeded: false, now: now), !isStopping { _ = queue.append(order) }
  }

  private mutating func finish(_ job: Job, result: Int32) {
    if job.phase != .running {
      counters.timedOut += 1
    } else if result == 0 {
      counters.succeeded += 1
    } else {
      counters.failed += 1
    }
    guard result != 0 || report.verbosity >= .verbose else { return }
    var line = line(
      "command ended", of: job.order.knock, as: result == 0 ? .debug : .warning)
    line.append(": ")
    line.append(endedWith: result)
    report.write(line)
  }

  /// Ends commands whose time is over.
  mutating func checkDeadlines(_ grants: inout GrantKeeper, now: Int64) {
    for index in 0..<jobs.count {
      guard let job = jobs[index], job.deadline <= now else { continue }
      switch job.phase {
      case .running:
        kill(-job.process, SIGTERM)
        report.write(line("command timed out, sent TERM", of: job.order.knock))
        jobs[index]?.phase = .terminated
        jobs[index]?.deadline = now + Self.graceMilliseconds
      case .terminated:
        kill(-job.process, SIGKILL)
        report.write(line("command goes on after TERM, sent KILL", of: job.order.knock))
        jobs[index]?.phase = .killed
        jobs[index]?.deadline = now + Self.graceMilliseconds
      case .killed:
        // Stuck in the kernel. Its end, if it comes, is that of a process which we do not know.
        report.write(
          line("command goes on after KILL, no longer waiting for it", of: job.order.knock))
        counters.timedOut += 1
        jobs[index] = nil
        runningCount -= 1
        fail(job.order, &grants, now: now)
      }
    }
  }

  /// Forgets the knocks that wait, or only those that open.
  mutating func dismiss(onlyOpens: Bool) {
    while let order = queue.removeFirst(where: { !onlyOpens || $0.knock.command == .open }) {
      report.write(line("command not run, the server stops", of: order.knock))
    }
  }

  /// Gives the running commands a last limit.
  mutating func hurry(now: Int64) {
    isStopping = true
    for index in 0..<jobs.count {
      guard let job = jobs[index], job.phase == .running else { continue }
      jobs[index]?.deadline = min(job.deadline, now + Self.stopMilliseconds)
    }
  }

  /// `what: open 192.0.2.1`.
  @inline(never)
  private func line(
    _ what: StaticString, of knock: Knock, as severity: Severity = .warning
  ) -> Line {
    var line = Line(severity)
    line.append(what)
    line.append(": ")
    line.append(knock)
    return line
  }
}

extension TextSink where Self: ~Copyable {
  /// How a process ended, by what `csys_reap` says: `exit status 1`, `signal 9`.
  mutating func append(endedWith result: Int32) {
    append(result >= 0 ? "exit status " : "signal ")
    append(result.magnitude)
  }
}
