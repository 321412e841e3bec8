import CSystem
import KnockBase

/// Runs a command of the user's as a shell would: with our standard streams, in our process group.
enum Subprocess {
  /// Its exit status, or 128 + the number of the signal that ended it; 127 where it is not found, 126 where
  /// it cannot be run. Signals that stop us are passed on to it, so that we outlive it.
  static func run(_ words: ArgumentList, _ report: Report) -> ExitCode {
    do throws(SystemError) {
      // From a terminal these go to both of us.
      csys_ignore(SIGQUIT)
      let signals = try Signals()
      var mask = signals.oldMask
      let process = unsafe csys_spawn(words.pointers, csys_environment(), &mask, 0)
      guard process > 0 else {
        if let name = words[0] {
          report.write("cannot run", name) { $0.append(SystemError(number: -process)) }
        }
        return ExitCode(rawValue: process == -ENOENT ? 127 : 126)
      }
      while true {
        _ = try poll(signals.number, -1, until: .max)
        while let event = try signals.next() {
          switch event {
          case .childEnded:
            guard csys_ended_child() == process else { break }
            let result = csys_reap(process)
            return ExitCode(rawValue: result >= 0 ? result : 128 - result)
          case .stop(let number) where number != SIGINT: kill(process, number)
          case .stop, .printCounters: break
          }
        }
      }
    } catch {
      report.write("fatal", error)
      return .failure
    }
  }
}
