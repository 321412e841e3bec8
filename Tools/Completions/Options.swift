#if DEBUG
  @testable import Programs

  typealias ServerOptions = ServerSettings.Option
  typealias ClientOptions = ClientSettings.Option
  typealias KeygenOptions = KeygenSettings.Option
  typealias StatusOptions = StatusSettings.Option

  /// An applet with its options.
  struct Applet {
    let name: String
    let help: String
    let options: [Option]

    init<Table: OptionTable>(_ name: String, _ table: Table.Type, _ help: String) {
      self.name = name
      self.help = help
      options = (UInt8(0)...).lazy.map { table.init(rawValue: $0) }.prefix { $0 != nil }
        .compactMap { $0.map { Option($0.spec) } }
    }
  }

  /// An option, and how its value is completed.
  struct Option {
    /// `-f` and `--file`, or only the second.
    let names: [String]
    let placeholder: String
    let help: String
    let value: Value

    enum Value: Equatable {
      case none, text, file, directory, user, host
      /// A name in client.conf.
      case name
      case words([String])
    }

    init(_ spec: OptionSpec) {
      let long = String(cString: spec.long.start)
      let short = spec.short == 0 ? [] : ["-\(Character(Unicode.Scalar(spec.short)))"]
      names = short + ["--\(long)"]
      placeholder = String(cString: spec.value.start)
      help = String(cString: spec.help.start)
      value =
        switch placeholder {
        case "": .none
        case "FILE": .file
        case "DIR": .directory
        case "USER": .user
        case "HOST[:PORT]": .host
        case "NAME": .name
        case _ where long == "sign-address": .words(["auto", "observed"])
        case _ where placeholder.contains("|"):
          .words(placeholder.split(separator: "|").map(String.init))
        default: .text
        }
    }

    /// Whether giving it again means more.
    var isRepeatable: Bool { names.contains("--verbose") || value == .host }
  }

  extension [String] {
    /// The words in lines of at most 88 characters. All lines but the first are indented.
    func wrapped(indent: Int, separator: String = " ", lineEnd: String = "") -> String {
      var text = ""
      var width = 0
      for word in self {
        if width + word.count > 88 {
          text += lineEnd + "\n" + String(repeating: " ", count: indent)
          width = 0
        } else if width > 0 {
          text += separator
        }
        text += word
        width += word.count + separator.count
      }
      return text
    }
  }

  extension String {
    /// With a backslash before each of these characters.
    func escaped(_ characters: String) -> String {
      map { characters.contains($0) ? "\\\($0)" : "\($0)" }.joined()
    }
  }
#endif
