"""What is handed over: the web page, its single file, the page of slots, and the local server."""
