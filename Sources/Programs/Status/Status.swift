import KnockBase
import KnockServer

/// What `pyknock server --list` prints.
enum Status {
  /// Prints the open grants in a state directory, the next to expire first.
  static func printGrants(in path: Argument, asJSON: Bool) -> ExitCode {
    do throws(StateFailure) {
      var found = Grants.Found()
      var grants = try GrantState.grants(in: path, found: &found)
      if found.damagedCount > 0 {
        log.warning(
          "warning: a part of the journal of grants is damaged, or of an older version: more may be open"
        )
      }
      return printToStandardOutput { output in
        var list = GrantList(asJSON: asJSON)
        list.begin(&output)
        while let grant = grants.removeFirst() { list.append(grant, grants.names, to: &output) }
        list.end(&output)
      }
    } catch {
      // There is no key in this command line.
      log.error("--state: \(quoted: path): \(error)")
      return .failure
    }
  }
}
