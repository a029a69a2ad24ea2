# fish completion of warmpy: python's own.
complete -c warmpy -w python3
