"""Tabs of a dashboard, in a process of their own: `python -m tests.benchmarks.tabs PORT COOKIE COUNT`, until ended.

Each hears the events and asks for the first page at each change, as the page's own script does.
"""

import http.client
import json
import sys
import threading


def watch(port: int, cookie: str) -> None:
    """Be one tab."""
    news = http.client.HTTPConnection("127.0.0.1", port)
    news.request("GET", "/events", headers={"Cookie": cookie})
    answer, shown = news.getresponse(), ""
    while line := answer.readline():
        if not line.startswith(b"data: ") or (version := json.loads(line[6:])["version"]) == shown:
            continue
        shown = version
        page = http.client.HTTPConnection("127.0.0.1", port)
        page.request("GET", "/", headers={"Cookie": cookie})
        page.getresponse().read()
        page.close()


if __name__ == "__main__":
    port, cookie, many = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    for _ in range(many):
        threading.Thread(target=watch, args=(port, cookie)).start()
