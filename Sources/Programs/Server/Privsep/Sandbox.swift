import CSystem
import KnockBase

/// What the two halves of the server give up, for good, before they begin. What a kernel does not have is
/// left out; `-v` tells what is in force.
struct Sandbox {
  struct User {
    let number: uid_t
    let group: gid_t

    /// A name in /etc/passwd, UID or UID:GID; with UID alone the group has the same number. Nil for what is neither.
    init?(_ text: Argument) {
      guard
        let user = text.withBytes({ text in
          if let user = Self.named(text) { return user }
          guard Self.field(2, of: text) == nil, let number = Self.number(in: 0, of: text) else {
            return nil as User?
          }
          guard Self.field(1, of: text) != nil else { return User(number: number, group: number) }
          return Self.number(in: 1, of: text).map { User(number: number, group: $0) }
        })
      else { return nil }
      self = user
    }

    private init(number: uid_t, group: gid_t) {
      self.number = number
      self.group = group
    }

    /// Source: passwd(5). To ask getpwnam(3) would make the program 6 KiB larger.
    private static func named(_ name: Span<UInt8>) -> User? {
      guard !name.isEmpty else { return nil }
      var found: User?
      do throws(SystemError) {
        let file = try TextFile(systems: Argument("/etc/passwd"))
        _ = file.visitLines { range in
          found = file.bytes.withElements(range) { line in
            guard let place = field(0, of: line), name.equals(line.extracting(place)),
              let user = number(in: 2, of: line), let group = number(in: 3, of: line)
            else { return nil }
            return User(number: user, group: group)
          }
          return found == nil
        }
      } catch {}
      return found
    }

    /// Where a field, counted from 0, stands; colons part them.
    private static func field(_ index: Int, of text: Span<UInt8>) -> Range<Int>? {
      var left = index
      var start = 0
      for end in 0...text.count where end == text.count || text[end] == UInt8(ascii: ":") {
        if left == 0 { return start..<end }
        left -= 1
        start = end + 1
      }
      return nil
    }

    /// The greatest one means "none" to the system.
    private static func number(in index: Int, of text: Span<UInt8>) -> UInt32? {
      guard let place = field(index, of: text),
        let number = Numbers.integer(text.extracting(place)), number < UInt32.max
      else { return nil }
      return UInt32(exactly: number)
    }
  }

  /// Nil to stay who we are.
  var user: User?
  /// Nil to keep the root directory.
  var root: Argument?
  /// False leaves out all but these two.
  var isOn = true

  /// What cannot be given up, though it must.
  struct Failure: Error {
    let what: StaticString
    let error: SystemError

    func write(to report: Report) { report.write(what, error) }
  }

  /// Checks what can be checked beforehand. False, with a report, where the root directory is of no use.
  func passesCheck(_ report: Report, mayQuote: Bool) -> Bool {
    let mayChange = csys_check_privilege(user == nil ? 0 : 1, root == nil ? 0 : 1)
    guard mayChange >= 0 else {
      report.write(user == nil ? "--chroot" : "--user", SystemError(number: -mayChange))
      return false
    }
    guard let root else { return true }
    let result = unsafe csys_check_root(root.pointer)
    guard result < 0 else { return true }
    var line = Line(.error)
    line.append("--chroot: ")
    line.append(quoted: root, if: mayQuote)
    line.append(": ")
    line.append(SystemError(number: -result))
    if result == -EACCES { line.append(" (it must belong to root, and only root may write in it)") }
    report.write(line)
    return false
  }

  /// For the receiver: it keeps its socket, its channel and the log, and no right at all.
  ///
  /// - Parameter parent: the executor. This process ends with it.
  func confineReceiver(
    socket: Int32, channel: Int32, parent: pid_t, report: Report
  ) throws(Failure) {
    let log = csys_log_descriptor()
    csys_close_others(socket, channel, log)
    try changeRootAndUser(keeping: 0)
    guard isOn else { return }
    let files = csys_forbid_files()
    try Self.must("limits", csys_limit(parent))
    let calls = csys_filter_calls(socket, channel, log)
    guard report.verbosity >= .verbose else { return }
    var line = Line(.debug)
    line.append("the receiver has no capabilities, ")
    line.append(files < 0 ? "no Landlock (" : "no files (Landlock")
    if files < 0 { line.append(SystemError(number: -files)) }
    line.append(calls < 0 ? "), no seccomp (" : "), few system calls (seccomp")
    if calls < 0 { line.append(SystemError(number: -calls)) }
    line.append(")")
    report.write(line)
  }

  /// For the executor, before there is a receiver. With commands it stays as it was started, since nobody
  /// knows what they need; to change sets of the kernel takes one capability.
  mutating func confineExecutor(
    changesSets: Bool, runsCommands: Bool, report: Report
  ) throws(Failure) {
    if !runsCommands {
      try changeRootAndUser(keeping: changesSets ? CSYS_NET_ADMIN : 0)
      // The receiver comes from it.
      (root, user) = (nil, nil)
    }
    guard isOn, report.verbosity >= .verbose else { return }
    report.write(
      runsCommands
        ? "the executor stays as it was started, for the commands"
        : changesSets
          ? "the executor has no capability but CAP_NET_ADMIN" : "the executor has no capability",
      as: .debug)
  }

  private func changeRootAndUser(keeping capabilities: UInt64) throws(Failure) {
    let keepsAll = !isOn && user == nil
    if !keepsAll { csys_bound_capabilities(capabilities) }
    if let root { try Self.must("--chroot", unsafe csys_change_root(root.pointer)) }
    if let user { try Self.must("--user", csys_change_user(user.number, user.group)) }
    // Those of another user are not ours in any case.
    guard !keepsAll else { return }
    try Self.must("capabilities", csys_keep_capabilities(capabilities))
    try Self.must("no new privileges", csys_forbid_new_privileges())
  }

  private static func must(_ what: StaticString, _ result: Int32) throws(Failure) {
    guard result >= 0 else {
      throw Failure(what: what, error: SystemError(number: -result))
    }
  }
}
