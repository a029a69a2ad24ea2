# fish completion of warmctl.

function __warmctl_names
    set -l dir $WARMFORK_RUNTIME_DIR
    test -n "$dir"; or test -z "$XDG_RUNTIME_DIR"; or set dir $XDG_RUNTIME_DIR/warmfork
    test -n "$dir"; or set dir /tmp/warmfork-(id -u)
    for path in $dir/zygotes/*
        string replace -r '.*/' '' -- $path
    end
end

complete -c warmctl -f
complete -c warmctl -n __fish_use_subcommand -a start -d 'Define a named zygote and start it'
complete -c warmctl -n __fish_use_subcommand -a warm -d 'Start what the next warmpy will want'
complete -c warmctl -n __fish_use_subcommand -a status -d 'Show the daemon and its zygotes'
complete -c warmctl -n __fish_use_subcommand -a stop -d 'Stop a zygote, or all and the daemon'
complete -c warmctl -n __fish_use_subcommand -a logs -d 'Show the log of the daemon'
complete -c warmctl -n __fish_use_subcommand -a audit -d 'Tell which imports make forking unsafe'
complete -c warmctl -n __fish_use_subcommand -l help -d 'Show help'
complete -c warmctl -n __fish_use_subcommand -l version -d 'Show the version'
complete -c warmctl -n '__fish_seen_subcommand_from start warm' -l preload -x -d 'Import these modules'
complete -c warmctl -n '__fish_seen_subcommand_from start' -l init -rF -d 'Run this file first'
complete -c warmctl -n '__fish_seen_subcommand_from start warm audit' -l python -rF -d 'The interpreter'
complete -c warmctl -n '__fish_seen_subcommand_from start warm' -l no-wait -d 'Do not wait until it is ready'
complete -c warmctl -n '__fish_seen_subcommand_from start status stop' -a '(__warmctl_names)' -d Zygote
complete -c warmctl -n '__fish_seen_subcommand_from status audit' -l json -d 'As JSON'
complete -c warmctl -n '__fish_seen_subcommand_from logs' -s f -l follow -d 'Go on with what is added'
complete -c warmctl -n '__fish_seen_subcommand_from logs' -s n -l lines -x -d 'How many lines'
complete -c warmctl -n '__fish_seen_subcommand_from audit' -F
complete -c warmctl -n '__fish_seen_subcommand_from audit' -l fail-on -xa 'unsafe warning info never' -d 'What fails'
complete -c warmctl -n '__fish_seen_subcommand_from audit' -s m -x -d 'Audit a module'
complete -c warmctl -n '__fish_seen_subcommand_from audit' -s c -x -d 'Audit this code'
