# The run section: it runs each time, and finds what the init section left.
print(pattern.match("helloworld"))
