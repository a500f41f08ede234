"""Probabilistically bounded staleness: how soon a read sees a write, worked out from measured latencies
(Bailis et al., VLDB 2012). `legs` keeps what was measured, `trials` plays a write and a read over and over, `figures`
makes of both what people are shown."""
