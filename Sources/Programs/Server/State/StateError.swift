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
  case file(name: StaticString, FileHeader.Failure)
  /// A file holds more than the capacity that an option gives.
  case tooSmall(name: StaticString, count: Int, option: StaticString)

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
    case .system(.wouldBlock): "another server has it"
    case .system(.accessDenied):
      "\(SystemError.accessDenied) (it must belong to us or root, and only its owner may write to it)"
    case .system(let error): "\(error)"
    case .file(let name, .foreign), .file(let name, .damagedHeader):
      "'\(name)' in it is not a file of pyknock"
    case .file(let name, .older(let version)):
      "'\(name)' in it has format \(version), made by an older pyknock; remove it to start without what it holds"
    case .file(let name, .newer(let version)):
      "'\(name)' in it has format \(version), made by a newer pyknock"
    case .tooSmall(let name, let count, let option):
      "'\(name)' in it holds \(count), more than --\(option)"
    }
  }
}
