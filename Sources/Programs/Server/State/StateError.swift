import KnockBase
import KnockServer

/// Why a server cannot have what an earlier one remembered.
struct StateError: Error {
  /// The state directory; nil without one.
  let path: Argument?
  let failure: StateFailure
}

extension StateError: MessageConvertible {
  var message: Message {
    if let path { "--state: \(argument: path): \(failure)" } else { "memory: \(failure)" }
  }
}

/// Why a file of the state directory, or the directory itself, cannot be used.
enum StateFailure: Error {
  case system(SystemError)
  case file(StateFile.Name, FileHeader.Failure)
  /// A file holds more than the capacity that the settings give.
  case tooSmall(StateFile.Name, count: Int)
  /// Those of open grants leave no room for those of the settings.
  case tooManySets

  static func wrapping<Value: ~Copyable>(
    _ body: () throws(SystemError) -> Value
  ) throws(StateFailure) -> Value {
    do throws(SystemError) {
      return try body()
    } catch { throw .system(error) }
  }
}

extension StateFailure: MessageConvertible {
  var message: Message {
    switch self {
    case .system(.wouldBlock): "another server has it, or a process that may read it (chmod 700)"
    case .system(.accessDenied):
      "\(SystemError.accessDenied) (it must belong to root or the server's user, and only its owner may write to it)"
    case .system(let error): "\(error)"
    case .file(let name, .newer(let version)):
      "'\(name.text)' in it has format \(version), made by a newer pyknock; use that one"
    case .file(let name, _): "'\(name.text)' in it is not a file of pyknock"
    case .tooSmall(.replay, let count): "'replay' in it holds \(count), more than --replay-capacity"
    case .tooSmall(_, let count): "'grants' in it holds \(count), more than --grant-capacity"
    case .tooManySets: "there is no room for the names of so many sets"
    }
  }
}
