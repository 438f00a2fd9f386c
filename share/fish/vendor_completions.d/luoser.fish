function _luoser_completion
    set -l word (commandline -ct)
    set -l option (string match -r -- '^--[^=]+=' "$word")
    set -l asked (env _LUOSER_COMPLETE=fish_complete COMP_WORDS=(commandline -cp) COMP_CWORD="$word" luoser)

    for line in $asked
        set -l item (string split -m 1 , -- $line)
        set -l found "$item[2]"
        switch $item[1]
            case dir
                set found (__fish_complete_directories "$item[2]")
            case file
                set found (__fish_complete_path "$item[2]")
        end
        for text in $found
            echo -- "$option$text"
        end
    end
end

complete --no-files --command luoser --arguments "(_luoser_completion)"
