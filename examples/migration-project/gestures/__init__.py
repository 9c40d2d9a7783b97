"""A classifier of gestures: `gestures.port` is what is shipped, `gestures.transfer` fills it with what Keras learnt."""
