"""An engine under load, as in MLPerf's scenarios: queries, streams, rates and bounds."""
