# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_preforkd_global_optspecs
    string join \n y/fpm-config= p/prefix= g/pid= t/test D/daemonize F/nodaemonize O/force-stderr R/allow-to-run-as-root h/help v/version
end

function __fish_preforkd_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_preforkd_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_preforkd_using_subcommand
    set -l cmd (__fish_preforkd_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c preforkd -n "__fish_preforkd_needs_command" -s y -l fpm-config -l config -d 'Read the configuration from FILE [default: /etc/preforkd/preforkd.conf, or etc/preforkd.conf in the folder of -p]' -r -F
complete -c preforkd -n "__fish_preforkd_needs_command" -s p -l prefix -d 'Let relative paths of the configuration start at DIR' -r -f -a "(__fish_complete_directories)"
complete -c preforkd -n "__fish_preforkd_needs_command" -s g -l pid -d 'Write the master\'s pid to FILE, if the configuration names no file for it' -r -F
complete -c preforkd -n "__fish_preforkd_needs_command" -s t -l test -d 'Check the configuration and exit; given twice (-tt), also print every value in effect'
complete -c preforkd -n "__fish_preforkd_needs_command" -s D -l daemonize -d 'Go into the background, whatever daemonize says'
complete -c preforkd -n "__fish_preforkd_needs_command" -s F -l nodaemonize -d 'Stay in the foreground, whatever daemonize says'
complete -c preforkd -n "__fish_preforkd_needs_command" -s O -l force-stderr -d 'Log to standard error in the foreground, whatever error_log says, also if it is no terminal'
complete -c preforkd -n "__fish_preforkd_needs_command" -s R -l allow-to-run-as-root -d 'Let pools run as root'
complete -c preforkd -n "__fish_preforkd_needs_command" -s h -l help -d 'Print help and exit, also as -? (--help: with every directive)'
complete -c preforkd -n "__fish_preforkd_needs_command" -s v -l version -d 'Print the version and exit'
complete -c preforkd -n "__fish_preforkd_needs_command" -f -a "run" -d 'Run in the foreground (as -F does)'
complete -c preforkd -n "__fish_preforkd_needs_command" -f -a "check" -d 'Check the configuration (as -t does)'
complete -c preforkd -n "__fish_preforkd_needs_command" -f -a "config" -d 'Check the configuration and print every value in effect (as -tt does)'
complete -c preforkd -n "__fish_preforkd_needs_command" -f -a "status" -d 'Print what the pools are doing, as their status pages tell it'
complete -c preforkd -n "__fish_preforkd_needs_command" -f -a "reload" -d 'Have the running master reload, wait for what comes of it, and say why if the old workers go on'
complete -c preforkd -n "__fish_preforkd_using_subcommand run" -s y -l fpm-config -l config -d 'Read the configuration from FILE [default: /etc/preforkd/preforkd.conf, or etc/preforkd.conf in the folder of -p]' -r -F
complete -c preforkd -n "__fish_preforkd_using_subcommand run" -s p -l prefix -d 'Let relative paths of the configuration start at DIR' -r -f -a "(__fish_complete_directories)"
complete -c preforkd -n "__fish_preforkd_using_subcommand run" -s g -l pid -d 'Write the master\'s pid to FILE, if the configuration names no file for it' -r -F
complete -c preforkd -n "__fish_preforkd_using_subcommand run" -s O -l force-stderr -d 'Log to standard error in the foreground, whatever error_log says, also if it is no terminal'
complete -c preforkd -n "__fish_preforkd_using_subcommand run" -s R -l allow-to-run-as-root -d 'Let pools run as root'
complete -c preforkd -n "__fish_preforkd_using_subcommand run" -s h -l help -d 'Print help and exit, also as -? (--help: with every directive)'
complete -c preforkd -n "__fish_preforkd_using_subcommand check" -s y -l fpm-config -l config -d 'Read the configuration from FILE [default: /etc/preforkd/preforkd.conf, or etc/preforkd.conf in the folder of -p]' -r -F
complete -c preforkd -n "__fish_preforkd_using_subcommand check" -s p -l prefix -d 'Let relative paths of the configuration start at DIR' -r -f -a "(__fish_complete_directories)"
complete -c preforkd -n "__fish_preforkd_using_subcommand check" -s g -l pid -d 'Write the master\'s pid to FILE, if the configuration names no file for it' -r -F
complete -c preforkd -n "__fish_preforkd_using_subcommand check" -s O -l force-stderr -d 'Log to standard error in the foreground, whatever error_log says, also if it is no terminal'
complete -c preforkd -n "__fish_preforkd_using_subcommand check" -s R -l allow-to-run-as-root -d 'Let pools run as root'
complete -c preforkd -n "__fish_preforkd_using_subcommand check" -s h -l help -d 'Print help and exit, also as -? (--help: with every directive)'
complete -c preforkd -n "__fish_preforkd_using_subcommand config" -s y -l fpm-config -l config -d 'Read the configuration from FILE [default: /etc/preforkd/preforkd.conf, or etc/preforkd.conf in the folder of -p]' -r -F
complete -c preforkd -n "__fish_preforkd_using_subcommand config" -s p -l prefix -d 'Let relative paths of the configuration start at DIR' -r -f -a "(__fish_complete_directories)"
complete -c preforkd -n "__fish_preforkd_using_subcommand config" -s g -l pid -d 'Write the master\'s pid to FILE, if the configuration names no file for it' -r -F
complete -c preforkd -n "__fish_preforkd_using_subcommand config" -s O -l force-stderr -d 'Log to standard error in the foreground, whatever error_log says, also if it is no terminal'
complete -c preforkd -n "__fish_preforkd_using_subcommand config" -s R -l allow-to-run-as-root -d 'Let pools run as root'
complete -c preforkd -n "__fish_preforkd_using_subcommand config" -s h -l help -d 'Print help and exit, also as -? (--help: with every directive)'
complete -c preforkd -n "__fish_preforkd_using_subcommand status" -s y -l fpm-config -l config -d 'Read the configuration from FILE [default: /etc/preforkd/preforkd.conf, or etc/preforkd.conf in the folder of -p]' -r -F
complete -c preforkd -n "__fish_preforkd_using_subcommand status" -s p -l prefix -d 'Let relative paths of the configuration start at DIR' -r -f -a "(__fish_complete_directories)"
complete -c preforkd -n "__fish_preforkd_using_subcommand status" -s g -l pid -d 'Write the master\'s pid to FILE, if the configuration names no file for it' -r -F
complete -c preforkd -n "__fish_preforkd_using_subcommand status" -l full -d 'Tell of each worker, too'
complete -c preforkd -n "__fish_preforkd_using_subcommand status" -l json -d 'Print JSON, an object for each pool'
complete -c preforkd -n "__fish_preforkd_using_subcommand status" -s O -l force-stderr -d 'Log to standard error in the foreground, whatever error_log says, also if it is no terminal'
complete -c preforkd -n "__fish_preforkd_using_subcommand status" -s R -l allow-to-run-as-root -d 'Let pools run as root'
complete -c preforkd -n "__fish_preforkd_using_subcommand status" -s h -l help -d 'Print help and exit, also as -? (--help: with every directive)'
complete -c preforkd -n "__fish_preforkd_using_subcommand reload" -s y -l fpm-config -l config -d 'Read the configuration from FILE [default: /etc/preforkd/preforkd.conf, or etc/preforkd.conf in the folder of -p]' -r -F
complete -c preforkd -n "__fish_preforkd_using_subcommand reload" -s p -l prefix -d 'Let relative paths of the configuration start at DIR' -r -f -a "(__fish_complete_directories)"
complete -c preforkd -n "__fish_preforkd_using_subcommand reload" -s g -l pid -d 'Write the master\'s pid to FILE, if the configuration names no file for it' -r -F
complete -c preforkd -n "__fish_preforkd_using_subcommand reload" -s O -l force-stderr -d 'Log to standard error in the foreground, whatever error_log says, also if it is no terminal'
complete -c preforkd -n "__fish_preforkd_using_subcommand reload" -s R -l allow-to-run-as-root -d 'Let pools run as root'
complete -c preforkd -n "__fish_preforkd_using_subcommand reload" -s h -l help -d 'Print help and exit, also as -? (--help: with every directive)'
