import CSystem
import KnockBase

/// The privileges that each process drops before it starts work. Of Landlock and seccomp, one is enough to start,
/// with a warning. With `-v` the log shows what is in force.
struct Sandbox {
  struct User {
    let number: UInt32
    let group: UInt32

    /// A name in /etc/passwd, UID, or UID:GID. With UID alone the group has the same number. Nil if the text is none
    /// of these.
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

    private init(number: UInt32, group: UInt32) {
      self.number = number
      self.group = group
    }

    /// Source: passwd(5). getpwnam(3) would make the program 6 KiB larger.
    private static func named(_ name: Span<UInt8>) -> User? {
      guard !name.isEmpty else { return nil }
      var found: User?
      do throws(SystemError) {
        let file = try TextFile(public: Argument("/etc/passwd"))
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

    /// The range of a field between colons, counted from 0.
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

    /// The greatest number means "none" to the system.
    private static func number(in index: Int, of text: Span<UInt8>) -> UInt32? {
      guard let place = field(index, of: text),
        let number = Numbers.integer(text.extracting(place)), number < UInt32.max
      else { return nil }
      return UInt32(exactly: number)
    }
  }

  /// The user that the server becomes; nil to keep the present one.
  var user: User?
  /// Nil to keep the root directory.
  var root: Argument?
  /// False to change only user and root directory.
  var isOn = true

  /// Why privileges cannot be dropped.
  enum Failure: Error {
    case step(Literal, SystemError)
    /// The same, but the sandbox can be switched off.
    case layer(Literal, SystemError)
    /// Neither Landlock nor seccomp works.
    case unconfined(Confinement)
    /// The root directory cannot be used.
    case root(Argument, SystemError)
    /// The kernel lacks system calls that the receiver needs.
    case oldKernel
  }

  /// Keeps other processes of this user from looking into this one, or taking its descriptors.
  func hide() throws(Failure) {
    if isOn { try check("PR_SET_DUMPABLE", csys_hide()) }
  }

  /// Checks as far as possible at start whether the steps will succeed.
  func check() throws(Failure) {
    if isOn, csys_check_kernel() < 0 { throw .oldKernel }
    guard user != nil || root != nil else { return }
    try Self.check(
      user == nil ? "--chroot" : "--user",
      csys_check_privilege(user == nil ? 0 : 1, root == nil ? 0 : 1))
    guard let root else { return }
    let result = unsafe csys_check_root(root.pointer)
    if result < 0 { throw .root(root, SystemError(number: -result)) }
  }

  /// What confines the receiver: the result of the call for each mechanism that a kernel may lack. Negative if it does.
  struct Confinement {
    let files: Int32
    let calls: Int32

    var isWhole: Bool { files >= 0 && calls >= 0 }
  }

  /// Confines the receiver. It keeps its socket, its channel and the log, and no privileges.
  ///
  /// - Parameter parent: the executor. This process ends with it.
  /// - Returns: nil if the sandbox is off.
  func confineReceiver(
    socket: Int32, channel: Int32, parent: Int32
  ) throws(Failure) -> Confinement? {
    let logDescriptor = log.becomeQueueOnly()
    csys_close_others(socket, channel, logDescriptor)
    try changeRootAndUser(keeping: 0)
    guard isOn else { return nil }
    let files = csys_forbid_files()
    try check("limits", csys_limit(parent))
    let confinement = Confinement(
      files: files, calls: csys_filter_calls(socket, channel, logDescriptor))
    if files < 0, confinement.calls < 0 { throw .unconfined(confinement) }
    return confinement
  }

  /// Confines the executor, before the fork. With commands it keeps all privileges, because nobody knows which ones
  /// they need. Changing sets takes one capability.
  mutating func confineExecutor(changesSets: Bool, runsCommands: Bool) throws(Failure) {
    if !runsCommands {
      try changeRootAndUser(keeping: changesSets ? CSYS_NET_ADMIN : 0)
      (root, user) = (nil, nil)  // The receiver inherits them.
    }
    try hide()
  }

  /// Lets this process send on a socket, and neither receive on it nor copy its descriptor.
  ///
  /// - Returns: why the kernel does not do that; nil if it does.
  func allowOnlySending(on socket: Int32) -> SystemError? {
    let result = csys_only_send(socket)
    return result < 0 ? SystemError(number: -result) : nil
  }

  private func changeRootAndUser(keeping capabilities: UInt64) throws(Failure) {
    let keepsAll = !isOn && user == nil
    if !keepsAll { try check("capabilities", csys_bound_capabilities(capabilities)) }
    if let root { try Self.check("--chroot", unsafe csys_change_root(root.pointer)) }
    if let user { try Self.check("--user", csys_change_user(user.number, user.group)) }
    // With another user, they are dropped even without a sandbox.
    guard !keepsAll else { return }
    try check("capabilities", csys_keep_capabilities(capabilities))
    try check("no new privileges", csys_forbid_new_privileges())
  }

  private func check(_ layer: Literal, _ result: Int32) throws(Failure) {
    guard result < 0 else { return }
    let error = SystemError(number: -result)
    throw isOn ? .layer(layer, error) : .step(layer, error)
  }

  private static func check(_ step: Literal, _ result: Int32) throws(Failure) {
    if result < 0 { throw .step(step, SystemError(number: -result)) }
  }
}

extension Sandbox.Confinement: MessageConvertible {
  var message: Message {
    """
    the receiver has no capabilities, \(files < 0 ? "no Landlock (" : "no files (Landlock")\
    \(reason: files)\(calls < 0 ? "), no seccomp (" : "), few system calls (seccomp")\
    \(reason: calls))
    """
  }
}

extension Sandbox.Failure: MessageConvertible {
  var message: Message {
    switch self {
    case .step(let step, let error): "\(step): \(error)"
    case .layer(let layer, let error):
      "sandbox: \(layer): \(error); --no-sandbox starts without it"
    case .unconfined(let confinement):
      "sandbox: \(confinement); --no-sandbox starts without it"
    case .oldKernel: "the sandbox needs Linux 4.3 or later; --no-sandbox starts without it"
    case .root(let root, let error):
      error == .accessDenied
        ? """
        --chroot: \(argument: root): \(error) (it must belong to root, and only root may write in it)
        """
        : "--chroot: \(argument: root): \(error)"
    }
  }
}

extension Message.Parts {
  /// The error in a negative result; nothing for another one.
  fileprivate mutating func appendInterpolation(reason result: Int32) {
    if result < 0 { appendInterpolation(SystemError(number: -result)) }
  }
}
