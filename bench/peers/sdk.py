"""didit-sdk, the unofficial Python SDK. It uses v3 with an API key, so it fetches no token."""

import os
import sys
import time

from didit import Didit

SESSION = "4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10"


def main() -> None:
    client = Didit(api_key="key", base_url=os.environ["DIDIT_BASE_URL"] + "/v3", timeout=30)

    def update() -> None:
        answer = client.sessions.update_status(SESSION, "Declined", comment="Duplicated user")
        assert answer.session_id == SESSION

    update()
    if sys.argv[1] == "warm":
        count = int(sys.argv[2])
        start = time.perf_counter_ns()
        for _ in range(count):
            update()
        print(time.perf_counter_ns() - start)


main()
