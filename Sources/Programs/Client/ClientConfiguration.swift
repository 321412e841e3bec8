import CSystem
import KnockBase

/// The files with what is known about hosts: `$XDG_CONFIG_HOME/pyknock/client.conf` (or that in `~/.config`),
/// and then `/etc/pyknock/client.conf`.
///
/// Each line is a `ConfigLine`. What stands behind `Host NAME...` is for these names, `*` for all, as is what
/// stands before the first one; the first value for a name counts. What is read stays in memory, since the
/// settings point to it.
enum ClientConfiguration {
  private static let pathLimit = 4096

  /// Takes what the files say about a name. False, with a report, where one is of no use.
  static func apply(
    _ name: Argument, to settings: inout ClientSettings, _ report: Report
  ) -> Bool {
    visitFiles { path in
      var isMeant = true
      return read(path, report) { keyword, value in
        if keyword == .host {
          isMeant = value.withBytes { hosts in name.withBytes { hosts.holdsWord($0) } }
        } else if isMeant {
          settings.take(keyword, keyword == .keyFile ? expandHome(value) : value)
        }
      }
    }
  }

  /// Prints each name that the files have.
  static func list(_ report: Report, to output: inout FileText) -> Bool {
    visitFiles { path in
      read(path, report) { keyword, value in
        guard keyword == .host else { return }
        value.withBytes { hosts in
          hosts.visitWords { word in
            guard !word.equals("*") else { return }
            output.append(word)
            output.append("\n")
          }
        }
      }
    }
  }

  /// Calls `body` with the path of each file, until it returns false. Returns whether it never did.
  private static func visitFiles(_ body: (Argument) -> Bool) -> Bool {
    guard let memory = Storage<UInt8>.mapped(pathLimit) else { return false }
    var path = StorageText(memory)
    if let folder = Environment.variable("XDG_CONFIG_HOME") {
      folder.withBytes { path.append($0) }
    } else if let home = Environment.variable("HOME") {
      home.withBytes { path.append($0) }
      path.append("/.config")
    }
    path.append("/pyknock/client.conf\0")
    guard let start = unsafe path.start, body(unsafe Argument(start)) else { return false }
    return body(Argument("/etc/pyknock/client.conf"))
  }

  /// Reads a file, if it is there.
  private static func read(
    _ path: Argument, _ report: Report, _ visit: (ClientKeyword, Argument) -> Void
  ) -> Bool {
    ConfigurationFile.read(path, isOptional: true, mayName: true, report) {
      word, value, complaint in
      guard let keyword = word.withBytes({ ClientKeyword($0) }) else {
        complaint.append(quoted: word)
        complaint.append(
          " is not Host, HostName, Port, KeyFile, Sign, Stun, Family or WaitPort")
        return false
      }
      if let accepted = keyword.refusal(of: value) {
        complaint.append(keyword.name)
        complaint.append(": ")
        complaint.append(quoted: value)
        complaint.append(" is not ")
        complaint.append(accepted)
        return false
      }
      visit(keyword, value)
      return true
    }
  }

  /// `~/` at its start stands for the home directory.
  private static func expandHome(_ value: Argument) -> Argument {
    guard value.withBytes({ $0.hasPrefix("~/") }), let home = Environment.variable("HOME"),
      let memory = Storage<UInt8>.mapped(home.count + value.count)
    else { return value }
    var path = StorageText(memory)
    home.withBytes { path.append($0) }
    value.withBytes { path.append($0.extracting(1...)) }
    guard let start = unsafe path.start else { return value }
    return unsafe Argument(start)
  }
}
