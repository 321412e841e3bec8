import KnockBase
import KnockServer

/// When users last knocked, and from where: `users` in the state directory.
enum LastKnockState {
  /// Nobody's.
  static func memory() throws(StateFailure) -> LastKnocks {
    LastKnocks(
      header: try StateFile.memory(FileHeader.size / 8, of: UInt64.self),
      records: try StateFile.memory(LastKnocks.capacity, of: LastKnocks.Record.self))
  }

  /// Takes over what a server has written of the users in the table. Returns false if some of it is damaged.
  static func read(
    _ knocks: inout LastKnocks, _ users: borrowing Users, in directory: borrowing StateDirectory
  ) throws(StateFailure) -> Bool {
    guard let file = try OldStateFile(.users, in: directory), file.size > 0 else { return true }
    let page = try file.page()
    let capacity = try file.capacity(of: page, LastKnocks.capacity)
    page.unmap()
    guard let capacity else { return false }
    let records = try StateFile.memory(
      min(capacity, LastKnocks.capacity), of: LastKnocks.Record.self)
    try file.copy(to: records)
    let isWhole = knocks.adopt(records, users)
    records.unmap()
    return isWhole
  }
}
