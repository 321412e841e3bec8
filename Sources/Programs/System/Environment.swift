import CSystem
import KnockBase

/// The environment of the process.
enum Environment {
  /// The value of a variable; nil if it is empty.
  static func variable(_ name: Literal) -> Argument? {
    guard let value = unsafe csys_variable(name.cString) else { return nil }
    return unsafe Argument(value).nonempty
  }

  /// The value of a variable that is a number.
  static func number(_ name: Literal) -> Int64? {
    variable(name)?.withBytes { Numbers.integer($0) }
  }

  /// Whether standard error goes to the journal: JOURNAL_STREAM has its device and inode. Source: systemd.exec(5).
  static var writesToJournal: Bool {
    guard let stream = variable("JOURNAL_STREAM") else { return false }
    var (device, inode): (UInt64, UInt64) = (0, 0)
    guard unsafe csys_identity(2, &device, &inode) >= 0 else { return false }
    var ours = TextBuffer<48>()
    ours.append(device)
    ours.append(":")
    ours.append(inode)
    return stream.withBytes { stream in ours.withBytes { stream.equals($0) } }
  }
}
